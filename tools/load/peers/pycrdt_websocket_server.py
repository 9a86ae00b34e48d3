"""pycrdt-websocket on uvicorn, started as in its documentation, at HOST and PORT. Must not store documents."""

import asyncio
import os

import uvicorn
from pycrdt.websocket import ASGIServer, WebsocketServer


async def main() -> None:
    documents = WebsocketServer(auto_clean_rooms=False)
    config = uvicorn.Config(
        ASGIServer(documents), host=os.environ["HOST"], port=int(os.environ["PORT"]), log_level="error", lifespan="off"
    )
    async with documents:
        await uvicorn.Server(config).serve()


asyncio.run(main())
