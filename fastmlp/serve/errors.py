"""Requests that cannot be answered."""

from collections.abc import Mapping

__all__ = ["RequestError", "is_busy", "is_late", "sentence_of"]


_MOST_LETTERS = 300  # of the message of an error


class RequestError(Exception):
    """A request that cannot be answered, with the reason as a sentence for the client.

    Parameters
    ----------
    sentence : str
    status : int, default=400
        Of HTTP.
    headers : mapping of str to str, optional
    """

    def __init__(
        self, sentence: str, status: int = 400, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.status = status
        self.headers = dict(headers or {})


def sentence_of(error: Exception) -> str:
    """Return the message of an error as a sentence, without advice in further lines."""
    text = str(error).partition("\n")[0].rstrip(".:") or type(error).__name__
    if len(text) > _MOST_LETTERS:  # it shows a value
        text = f"{text[: _MOST_LETTERS // 2]} ... {text[-_MOST_LETTERS // 2 :]}"
    return f"{text}."


def is_busy(why: str) -> RequestError:
    """Return the refusal of a request that may succeed a moment later."""
    return RequestError(f"the server is busy ({why}): try again.", 503, {"Retry-After": "1"})


def is_late(seconds: float) -> RequestError:
    """Return the refusal of a request whose answer takes too long."""
    return is_busy(f"the answer is not ready after {seconds:g} seconds")
