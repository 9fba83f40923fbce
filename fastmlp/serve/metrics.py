"""Numbers about the server, in the text format of Prometheus."""

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

__all__ = ["Metrics"]

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096, 16384, 65536)


class Metrics:
    """Counts requests, rows and batches."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "fastmlp_requests", "Answered requests.", ["route", "status"], registry=self.registry
        )
        self._seconds = Histogram(
            "fastmlp_request_seconds",
            "Time from the headers of a request to the end of its answer.",
            ["route"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._rows = Counter("fastmlp_rows", "Predicted rows.", ["model"], registry=self.registry)
        self._batch_rows = Histogram(
            "fastmlp_batch_rows",
            "Rows that were predicted at once.",
            ["model"],
            buckets=_SIZES,
            registry=self.registry,
        )
        self._batch_requests = Histogram(
            "fastmlp_batch_requests",
            "Requests that were predicted at once.",
            ["model"],
            buckets=_SIZES,
            registry=self.registry,
        )
        self._reloads = Counter(
            "fastmlp_reloads",
            "Model files that were replaced.",
            ["model", "result"],
            registry=self.registry,
        )
        self.in_flight = Gauge(
            "fastmlp_requests_in_flight", "Requests being answered.", registry=self.registry
        )
        self._of_route: dict[tuple[str, int], tuple[Counter, Histogram]] = {}
        ProcessCollector(registry=self.registry)

    def request(self, route: str, status: int, seconds: float) -> None:
        """Count an answered request."""
        if (route, status) not in self._of_route:
            counter = self._requests.labels(route, str(status))
            self._of_route[route, status] = counter, self._seconds.labels(route)
        counter, histogram = self._of_route[route, status]
        counter.inc()
        histogram.observe(seconds)

    def batch(self, model: str, n_requests: int, n_rows: int) -> None:
        """Count a batch."""
        self._rows.labels(model).inc(n_rows)
        self._batch_rows.labels(model).observe(n_rows)
        self._batch_requests.labels(model).observe(n_requests)

    def reload(self, model: str, *, succeeded: bool) -> None:
        """Count a file that was replaced."""
        self._reloads.labels(model, "loaded" if succeeded else "refused").inc()

    def text(self) -> bytes:
        """Return all numbers."""
        return generate_latest(self.registry)
