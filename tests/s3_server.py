"""A real S3 server on 127.0.0.1 for tests: moto's, in a process of its own. `python -m tests.s3_server` prints its two addresses.

At the second it drops the conditions of writes, as some storages do.
"""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent


@dataclass
class Server:
    """Where the server is, also where it ignores conditions, and the environment in which a process uses it."""

    endpoint: str
    careless_endpoint: str
    env: dict[str, str]

    @property
    def careless(self) -> Server:
        """The server as it is where it ignores conditions."""
        return replace(self, endpoint=self.careless_endpoint, env=self.env | {"AWS_ENDPOINT_URL": self.careless_endpoint})

    @cached_property
    def client(self) -> Any:
        """A client with all rights."""
        import boto3

        keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}
        return boto3.session.Session().client("s3", endpoint_url=self.endpoint, **keys)

    def bucket(self, name: str) -> str:
        """Make a bucket; gives the address of a store in it."""
        self.client.create_bucket(Bucket=name)
        return f"s3://{name}/store"

    def objects(self, name: str) -> dict[str, Any]:
        """The store's objects in a bucket by key, as they are listed."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=name, Prefix="store/")
        return {found["Key"].removeprefix("store/"): found for page in pages for found in page.get("Contents", ())}

    def read(self, name: str, key: str) -> bytes:
        """An object of the store in a bucket."""
        data: bytes = self.client.get_object(Bucket=name, Key=f"store/{key}")["Body"].read()
        return data


@contextmanager
def serving(cache: Path) -> Iterator[Server]:
    """A server while the block runs. Processes with its environment keep their working copies below `cache`."""
    process = subprocess.Popen([sys.executable, "-m", "tests.s3_server"], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        endpoint, careless = process.stdout.readline().split()
        env = {
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "VITNAS_CACHE": str(cache),
        }
        yield Server(endpoint, careless, env)
    finally:
        process.kill()
        process.wait()


Application = Callable[[dict[str, Any], Any], Iterable[bytes]]


def main() -> None:
    """Serve until killed."""
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
    from werkzeug.serving import make_server

    inner: Application = DomainDispatcherApplication(create_backend_app)
    one_at_a_time = threading.Lock()  # moto looks at a condition and writes in two steps

    def application(environ: dict[str, Any], start_response: Any, *, careless: bool) -> Iterable[bytes]:
        if careless:
            environ.pop("HTTP_IF_MATCH", None)
            environ.pop("HTTP_IF_NONE_MATCH", None)
        with one_at_a_time:
            return inner(environ, start_response)

    servers = [
        make_server("127.0.0.1", 0, partial(application, careless=careless), threaded=True, request_handler=MotoRequestHandler)
        for careless in (False, True)
    ]
    print(*(f"http://127.0.0.1:{server.server_port}" for server in servers), flush=True)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # it has a line for every request
    threading.Thread(target=servers[1].serve_forever, daemon=True).start()
    servers[0].serve_forever()


if __name__ == "__main__":
    main()
