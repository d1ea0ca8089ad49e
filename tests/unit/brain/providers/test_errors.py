"""What an error becomes when no server can be made to send it. The rest is in
tests/contract/test_provider_faults.py.
"""

from __future__ import annotations

import ssl

import pytest

from goclaw.brain.providers.errors import classify, redact, translated
from goclaw.errors import ProviderError, ProviderRefused, ProviderUnavailable
from tests.fakes import FakeClock


def judged(error: Exception) -> ProviderError:
    return classify(error, provider="p", key="hush-hush", now_ms=0)


def test_a_certificate_that_cannot_be_verified_is_not_tried_again() -> None:
    error = OSError("connection failed")
    error.__cause__ = ssl.SSLCertVerificationError("self-signed certificate")
    judgement = judged(error)
    assert isinstance(judgement, ProviderRefused)
    assert judgement.data["kind"] == "tls"


def test_an_error_that_is_its_own_cause_does_not_hang() -> None:
    error = OSError("round")
    other = OSError("about")
    error.__context__, other.__context__ = other, error
    assert isinstance(judged(error), ProviderUnavailable)


@pytest.mark.spec("GC-BRN-112")
@pytest.mark.parametrize(
    "text",
    [
        "the key hush-hush is wrong",
        "Incorrect API key provided: sk-proj-abcdef",
        "key-123456 is not known",
        "Authorization: Bearer abc.def",
        "cannot reach http://me:abc@host/",
    ],
)
def test_keys_and_what_looks_like_them_are_taken_out(text: str) -> None:
    shown = redact(text, "hush-hush")
    assert "[key]" in shown
    for secret in ("hush", "abc", "123456"):
        assert secret not in shown


def test_long_texts_become_one_short_line() -> None:
    shown = redact("<html>\n" + "x" * 1000, None)
    assert len(shown) == 300
    assert "\n" not in shown


def test_our_own_errors_and_cancellation_pass_untouched() -> None:
    own = ProviderRefused("mine")
    with pytest.raises(ProviderRefused) as caught, translated("p", None, FakeClock(), ()):
        raise own
    assert caught.value is own
    with pytest.raises(KeyboardInterrupt), translated("p", None, FakeClock(), ()):
        raise KeyboardInterrupt


@pytest.mark.spec("GC-BRN-113")
@pytest.mark.parametrize("error", [KeyError("x"), TypeError(), AttributeError(), IndexError(), RecursionError()])
def test_an_answer_that_makes_no_sense_is_unavailable_and_keeps_its_cause(error: Exception) -> None:
    with (
        pytest.raises(ProviderUnavailable, match="not an answer") as caught,
        translated("p", None, FakeClock(), ()),
    ):
        raise error
    assert caught.value.__cause__ is error
