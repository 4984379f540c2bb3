"""A small OpenTelemetry collector for tests: takes OTLP over HTTP on a real socket, and keeps the spans."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

PATIENCE_S = 30.0
POLL_S = 0.01


class Collector:
    """Listens on a port of its own while the `with` block runs. `refuses`: it answers 400 to everything."""

    def __init__(self) -> None:
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

        self.refuses = False
        self.resources: list[dict[str, Any]] = []
        self._spans: list[Any] = []
        self._news = threading.Condition()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                taken = self.path == "/v1/traces" and not collector.refuses
                if taken:
                    collector._take(ExportTraceServiceRequest.FromString(body))
                self.send_response(200 if taken else 400)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(POLL_S,), name="collector")
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def wait_for(self, count: int) -> list[Any]:
        """All spans, once there are so many."""
        with self._news:
            assert self._news.wait_for(lambda: len(self._spans) >= count, PATIENCE_S), len(self._spans)
            return list(self._spans)

    def _take(self, request: Any) -> None:
        with self._news:
            for of_resource in request.resource_spans:
                self.resources.append(attributes(of_resource.resource))
                for scope in of_resource.scope_spans:
                    self._spans.extend(scope.spans)
            self._news.notify_all()


def attributes(of: Any) -> dict[str, Any]:
    """Of a span, or of a resource."""
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in of.attributes}
