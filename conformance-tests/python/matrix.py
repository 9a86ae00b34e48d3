"""A stock Matrix client, matrix-nio: JSON requests on standard input, one per line, and responses on standard output. It
uses the client's own calls and its own sync loop, as an application does. The first argument is the certificate authority
to trust. Must not bypass the client where it has a call."""

import asyncio
import json
import ssl
import sys
import time
from base64 import b64decode, b64encode
from io import BytesIO
from urllib.parse import quote

from nio import (
    AsyncClient,
    AsyncClientConfig,
    ErrorResponse,
    MessageDirection,
    ReceiptType,
    RoomPreset,
    RoomVisibility,
    SyncResponse,
    ToDeviceMessage,
)
from nio.api import RelationshipType

TRUST = ssl.create_default_context(cafile=sys.argv[1])
seen = []
# The memberships in the latest sync responses. The client's own list of rooms keeps rooms that the user was kicked
# from.
memberships = {}
# For each room: the contiguous events of the sync responses, and the token from which to page back.
timelines = {}
client = None
loop_task = None


def fine(answer):
    """Returns the response; raises an exception if it is an error."""
    if isinstance(answer, ErrorResponse):
        raise RuntimeError(f"{answer.status_code} {answer.message}")
    return answer


def has(whole, part):
    """Whether `whole` contains everything of `part`, at the same paths."""
    if isinstance(part, dict):
        return isinstance(whole, dict) and all(key in whole and has(whole[key], value) for key, value in part.items())
    if isinstance(part, list):
        return isinstance(whole, list) and all(any(has(other, item) for other in whole) for item in part)
    return whole == part


def times(part):
    """The number of matching events; an event received twice, in the state and in the timeline, counts once."""
    found = [event for event in seen if has(event, part)]
    return len({event.get("event_id", number) for number, event in enumerate(found)})


async def until(find, timeout, what):
    """Waits until `find` returns a true value."""
    deadline = time.monotonic() + timeout / 1000
    while True:
        found = find()
        if found:
            return found
        if loop_task is not None and loop_task.done():
            raise RuntimeError(f"the sync loop ended: {loop_task.exception()!r}")
        if time.monotonic() > deadline:
            raise RuntimeError(f"{what} was not seen within {timeout} ms; last: {json.dumps([[event.get('type'), event.get('room_id'), event.get('content')] for event in seen[-16:]])}")
        await asyncio.sleep(0.05)


def ephemeral(event):
    """The client keeps no source of ephemeral events: rebuilds the event from the parsed fields."""
    if hasattr(event, "users"):
        return {"type": "m.typing", "content": {"user_ids": event.users}}
    content = {}
    for receipt in getattr(event, "receipts", []):
        users = content.setdefault(receipt.event_id, {}).setdefault(receipt.receipt_type, {})
        users[receipt.user_id] = {"ts": receipt.timestamp}
    return {"type": "m.receipt", "content": content}


def account_data(event):
    """Rebuilds an account data event from the parsed fields."""
    if hasattr(event, "tags"):
        return {"type": "m.tag", "content": {"tags": event.tags}}
    if hasattr(event, "event_id"):
        return {"type": "m.fully_read", "content": {"event_id": event.event_id}}
    return {"type": getattr(event, "type", "m.push_rules"), "content": getattr(event, "content", {})}


async def synced(answer):
    for is_now, rooms in (("join", answer.rooms.join), ("leave", answer.rooms.leave)):
        for room, news in rooms.items():
            memberships[room] = is_now
            if room not in timelines or news.timeline.limited:
                # Earlier events are fetched by paging back.
                timelines[room] = {"events": [], "from": news.timeline.prev_batch}
            timelines[room]["events"].extend(event.source for event in news.timeline.events)
            for event in [*news.state, *news.timeline.events]:
                seen.append({**event.source, "room_id": room})
            seen.extend({**ephemeral(event), "room_id": room} for event in news.ephemeral)
            seen.extend({**account_data(event), "room_id": room} for event in news.account_data)
    for room, invitation in answer.rooms.invite.items():
        memberships[room] = "invite"
        for event in invitation.invite_state:
            # The client removes the content of a member event from its source.
            content = getattr(event, "content", None) or event.source.get("content")
            seen.append({**event.source, "content": content, "room_id": room})
    seen.extend(account_data(event) for event in answer.account_data_events)
    for event in answer.presence_events:
        content = {"presence": event.presence, "status_msg": event.status_msg}
        seen.append({"type": "m.presence", "sender": event.user_id, "content": content})
    for event in answer.to_device_events:
        seen.append({**event.source, "to_device": True})


async def ask(method, path, body=None):
    headers = {"Authorization": f"Bearer {client.access_token}", "Content-Type": "application/json"}
    answer = await client.send(method, path, None if body is None else json.dumps(body), headers)
    return answer.status, await answer.json(content_type=None)


async def asked(method, path, body=None):
    status, answer = await ask(method, path, body)
    if status >= 400:
        raise RuntimeError(f"{answer.get('errcode')} {answer.get('error')}")
    return answer


ROOMS = "/_matrix/client/v3/rooms"


def own(what):
    return f"/_matrix/client/v3/user/{quote(client.user_id)}/{what}"


class Commands:
    async def login(self, url, user, password, device, **_):
        global client
        config = AsyncClientConfig(encryption_enabled=False, max_limit_exceeded=0, max_timeouts=0)
        client = AsyncClient(url, user, device_id=device, config=config, ssl=TRUST)
        flows = fine(await client.login_info())
        if "m.login.password" not in flows.flows:
            raise RuntimeError(f"no password: {flows.flows}")
        answer = fine(await client.login(password, device_name="Stock client"))
        return {"user_id": answer.user_id, "device_id": answer.device_id}

    async def start(self, timeline, **_):
        global loop_task
        first = asyncio.Event()

        async def each(answer):
            await synced(answer)
            first.set()

        client.add_response_callback(each, SyncResponse)
        room = {"timeline": timeline, "state": {"lazy_load_members": True}}
        filters = fine(await client.upload_filter(room=room)).filter_id
        loop_task = asyncio.create_task(client.sync_forever(timeout=5000, sync_filter=filters))
        await asyncio.wait_for(first.wait(), 30)

    async def pause(self, **_):
        loop_task.cancel()

    async def resume(self, timeline, **_):
        """Continues from the last sync token."""
        client.response_callbacks.clear()
        await self.start(timeline)

    async def history(self, room, limit, **_):
        """Pages back to the first event of the room."""
        events, token = list(timelines[room]["events"]), timelines[room]["from"]
        while token:
            page = fine(await client.room_messages(room, token, None, MessageDirection.back, limit))
            events[:0] = [event.source for event in reversed(page.chunk)]
            token = page.end
        return {"events": events}

    async def whoami(self, **_):
        answer = fine(await client.whoami())
        return {"user_id": answer.user_id, "device_id": answer.device_id}

    async def versions(self, **_):
        return await asked("GET", "/_matrix/client/versions")

    async def capabilities(self, **_):
        return (await asked("GET", "/_matrix/client/v3/capabilities"))["capabilities"]

    async def create_room(self, options, **_):
        options = dict(options)
        if "visibility" in options:
            options["visibility"] = RoomVisibility(options["visibility"])
        if "room_alias_name" in options:
            options["alias"] = options.pop("room_alias_name")
        if "preset" in options:
            options["preset"] = RoomPreset(options["preset"])
        return {"room_id": fine(await client.room_create(**options)).room_id}

    async def invite(self, room, user, **_):
        fine(await client.room_invite(room, user))

    async def join(self, room, via=None, **_):
        if via:
            return await asked("POST", f"/_matrix/client/v3/join/{quote(room)}?via={quote(via)}&server_name={quote(via)}", {})
        return {"room_id": fine(await client.join(room)).room_id}

    async def knock(self, room, via, **_):
        return await asked("POST", f"/_matrix/client/v3/knock/{quote(room)}?via={quote(via)}&server_name={quote(via)}", {})

    async def leave(self, room, **_):
        fine(await client.room_leave(room))

    async def forget(self, room, **_):
        fine(await client.room_forget(room))

    async def kick(self, room, user, **_):
        fine(await client.room_kick(room, user, "reason"))

    async def ban(self, room, user, **_):
        fine(await client.room_ban(room, user, "reason"))

    async def unban(self, room, user, **_):
        fine(await client.room_unban(room, user))

    async def until_membership(self, room, timeout, **request):
        await until(lambda: memberships.get(room) == request["is"], timeout, f"{request['is']} in {room}")

    async def until_seen(self, part, timeout, **_):
        return await until(lambda: next((event for event in seen if has(event, part)), None), timeout, json.dumps(part))

    async def count(self, part, **_):
        return {"count": times(part)}

    async def until_count(self, part, count, timeout, **_):
        await until(lambda: times(part) >= count, timeout, f"{count} times {json.dumps(part)}")

    async def until_typing(self, room, user, timeout, **request):
        def is_so():
            return room in client.rooms and (user in client.rooms[room].typing_users) == request["is"]

        await until(is_so, timeout, f"typing of {user}: {request['is']}")

    async def send(self, room, type, content, **_):
        return {"event_id": fine(await client.room_send(room, type, content)).event_id}

    async def redact(self, room, event, **_):
        return {"event_id": fine(await client.room_redact(room, event)).event_id}

    async def state(self, room, type, key, **_):
        return fine(await client.room_get_state_event(room, type, key)).content

    async def set_state(self, room, type, key, content, **_):
        return {"event_id": fine(await client.room_put_state(room, type, content, key)).event_id}

    async def messages(self, room, dir, limit, filter=None, **request):
        direction = MessageDirection.back if dir == "b" else MessageDirection.front
        page = fine(await client.room_messages(room, request.get("from"), None, direction, limit, filter))
        return {"chunk": [event.source for event in page.chunk], "end": page.end}

    async def typing(self, room, **request):
        fine(await client.room_typing(room, request["is"], 20000))

    async def receipt(self, room, event, **_):
        fine(await client.update_receipt_marker(room, event, ReceiptType.read))
        fine(await client.room_read_markers(room, event, event))

    async def upload(self, name, type, base64, **_):
        data = b64decode(base64)
        answer, _keys = await client.upload(lambda *_: BytesIO(data), type, name, filesize=len(data))
        return {"uri": fine(answer).content_uri}

    async def download(self, uri, **_):
        file = fine(await client.download(uri))
        server, media = uri.removeprefix("mxc://").split("/")
        small = fine(await client.thumbnail(server, media, 96, 96))
        return {"base64": b64encode(file.body).decode(), "type": file.content_type, "thumbnail": small.content_type}

    async def set_name(self, name, **_):
        fine(await client.set_displayname(name))

    async def set_avatar(self, url, **_):
        fine(await client.set_avatar(url))

    async def profile(self, user, **_):
        answer = fine(await client.get_profile(user))
        return {"displayname": answer.displayname, "avatar_url": answer.avatar_url}

    async def create_alias(self, alias, room, **_):
        fine(await client.room_put_alias(alias, room))

    async def resolve_alias(self, alias, **_):
        answer = fine(await client.room_resolve_alias(alias))
        return {"room_id": answer.room_id, "servers": answer.servers}

    async def delete_alias(self, alias, **_):
        fine(await client.room_delete_alias(alias))

    async def directory(self, server=None, **_):
        return await asked("GET", "/_matrix/client/v3/publicRooms?limit=50" + (f"&server={quote(server)}" if server else ""))

    async def set_tag(self, room, tag, **_):
        return await asked("PUT", own(f"rooms/{quote(room)}/tags/{tag}"), {"order": 0.5})

    async def tags(self, room, **_):
        return await asked("GET", own(f"rooms/{quote(room)}/tags"))

    async def set_account_data(self, type, content, **_):
        return await asked("PUT", own(f"account_data/{type}"), content)

    async def account_data(self, type, **_):
        return await asked("GET", own(f"account_data/{type}"))

    async def push_rules(self, **_):
        return await asked("GET", "/_matrix/client/v3/pushrules/")

    async def devices(self, **_):
        answer = fine(await client.devices())
        return {"devices": [{"device_id": device.id, "display_name": device.display_name} for device in answer.devices]}

    async def rename_device(self, device, name, **_):
        fine(await client.update_device(device, {"display_name": name}))

    async def delete_device(self, device, user, password, **_):
        answer = fine(await client.delete_devices([device]))
        if hasattr(answer, "session"):
            auth = {"type": "m.login.password", "session": answer.session, "password": password}
            auth["identifier"] = {"type": "m.id.user", "user": user}
            answer = fine(await client.delete_devices([device], auth))
            if hasattr(answer, "session"):
                # The client reports no error for a failed authentication: it is asked to authenticate again.
                raise RuntimeError("M_FORBIDDEN authentication was requested again")

    async def to_device(self, user, device, type, content, **_):
        fine(await client.to_device(ToDeviceMessage(type, user, device, content)))

    async def members(self, room, **_):
        answer = fine(await client.joined_members(room))
        return {"members": [[member.user_id, "join"] for member in answer.members]}

    async def context(self, room, event, **_):
        answer = fine(await client.room_context(room, event, 4))
        before, after = ([event.source for event in events] for events in (answer.events_before, answer.events_after))
        return {"event": answer.event.source, "events_before": before, "events_after": after}

    async def event(self, room, event, **_):
        return fine(await client.room_get_event(room, event)).event.source

    async def relations(self, room, event, rel, type, **_):
        found = client.room_get_event_relations(room, event, RelationshipType(rel), type)
        return {"chunk": [event.source async for event in found]}

    async def search_users(self, term, **_):
        return await asked("POST", "/_matrix/client/v3/user_directory/search", {"search_term": term, "limit": 10})

    async def set_presence(self, status, **_):
        fine(await client.set_presence("online", status))

    async def logout(self, **_):
        loop_task.cancel()
        token = client.access_token
        fine(await client.logout(all_devices=True))
        client.access_token = token

    async def ask(self, method, path, body=None, **_):
        """Any other request: an error response is returned as a result."""
        status, answer = await ask(method, path, body)
        return {"status": status, "body": answer} if status < 400 else {"status": status, "errcode": answer.get("errcode")}


def say(answer):
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


async def handle(request):
    try:
        answer = await getattr(Commands(), request["command"])(**request)
        say({"id": request["id"], "ok": {} if answer is None or answer is True else answer})
    except Exception as error:
        say({"id": request["id"], "error": str(error) or repr(error)})


async def main():
    reader = asyncio.StreamReader(limit=1 << 24)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    tasks = set()
    while line := await reader.readline():
        task = asyncio.create_task(handle(json.loads(line)))
        tasks.add(task)
        task.add_done_callback(tasks.discard)


asyncio.run(main())
