"""Checks that a file is an OpenAPI 3.1 document, by the schema of that standard, and that its schemas are JSON Schemas.

Must not send a request: schemathesis does.
"""

import json
import sys

import jsonschema_rs
from schemathesis.specs.openapi.definitions import OPENAPI_31

with open(sys.argv[1], encoding="utf-8") as file:
    document = json.load(file)
jsonschema_rs.validate(OPENAPI_31, document)
for name, schema in document["components"]["schemas"].items():
    try:
        jsonschema_rs.meta.validate(schema)
    except jsonschema_rs.ValidationError as error:
        sys.exit(f"{name}: {error}")
