"""Who may send a delivery: secret tokens, signatures, and everything that is neither."""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64decode, b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envprov.domain.errors import RejectedDelivery
from webhooks.authentic import Headers, Secrets, Signature, authenticate

NOW = 1614265330
KEY = b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
BODY = b'{"test": 2432232314}'
VECTOR: Headers = [
    (b"webhook-id", b"msg_p5jXN8AQM9LWM0D4loKWxJek"),
    (b"webhook-timestamp", b"1614265330"),
    (b"webhook-signature", b"v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="),
]
"""The vector that the reference libraries of Standard Webhooks share."""
GOOD = VECTOR[2][1]
OTHER = b"v1," + b64encode(b"x" * 32)
SECRETS = Secrets(tokens=(b"secret",), keys=(KEY,))


def token(value: bytes) -> Headers:
    return [(b"x-gitlab-token", value)]


def with_(name: bytes, *values: bytes) -> Headers:
    """Return the vector with another value for a header, or with several of it, or with none."""
    return [*(pair for pair in VECTOR if pair[0] != name), *((name, value) for value in values)]


def check(headers: Headers, secrets: Secrets, raw: bytes = BODY, *, now: float = NOW) -> None:
    """Do what the receiver does."""
    signature = authenticate(headers, secrets, now=now)
    if signature is not None:
        signature.verify(raw, secrets.keys)


def refused(headers: Headers, secrets: Secrets, raw: bytes = BODY, *, now: float = NOW) -> str:
    """Return why it is refused; the sender is never told."""
    with pytest.raises(RejectedDelivery) as error:
        check(headers, secrets, raw, now=now)
    assert (error.value.status, str(error.value)) == (401, "not authentic")
    (note,) = error.value.__notes__
    return note


@pytest.mark.parametrize("given_", [b"new", b"old", "schlüssel".encode()])
def test_every_token_that_is_valid_now_opens(given_: bytes) -> None:
    tokens = (b"new", b"old", "schlüssel".encode())
    assert authenticate(token(given_), Secrets(tokens), now=NOW) is None


@pytest.mark.parametrize(
    ("headers", "tokens"),
    [
        pytest.param([], [b"secret"], id="no token"),
        pytest.param(token(b""), [b"secret"], id="empty token"),
        pytest.param(token(b"secreT"), [b"secret"], id="other token"),
        pytest.param(token(b"secret "), [b"secret"], id="longer token"),
        pytest.param(token(b"\xff\xfe\x00"), [b"secret"], id="token of junk"),
        pytest.param(token("schlüssel".encode("latin-1")), ["schlüssel".encode()], id="token in another encoding"),
        pytest.param([*token(b"secret"), *token(b"secret")], [b"secret"], id="token twice"),
        pytest.param(token(b"secret"), [], id="no token configured"),
        pytest.param(token(b""), [b""], id="empty token configured"),
        pytest.param([], [b""], id="empty token configured and none given"),
        pytest.param([(b"webhook-signature", b""), *token(b"secret")], [b"secret"], id="empty signature"),
    ],
)
def test_whoever_does_not_know_a_token_is_refused(headers: Headers, tokens: list[bytes]) -> None:
    refused(headers, Secrets(tuple(tokens)))


def test_the_vector_of_the_specification_verifies() -> None:
    check(VECTOR, SECRETS)
    check(VECTOR, Secrets(keys=(KEY,), require_signature=True))


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param(with_(b"webhook-signature", GOOD + b" " + OTHER), id="good one first"),
        pytest.param(with_(b"webhook-signature", OTHER + b" " + GOOD), id="good one last"),
        pytest.param(with_(b"webhook-signature", b"v1a,hnO3f9T8Ytu9 " + GOOD), id="beside another version"),
        pytest.param([*VECTOR, *token(b"secret")], id="beside a good token"),
        pytest.param([*VECTOR, *token(b"older")], id="beside a token that is none of ours any more"),
    ],
)
def test_one_good_signature_is_enough(headers: Headers) -> None:
    check(headers, SECRETS)


@pytest.mark.parametrize("keys", [(KEY, b"n" * 32), (b"n" * 32, KEY)])
def test_keys_can_be_rotated(keys: tuple[bytes, ...]) -> None:
    check(VECTOR, Secrets(keys=keys))


@pytest.mark.parametrize("now", [NOW - 300, NOW - 299.5, NOW, NOW + 300])
def test_clocks_may_differ_by_five_minutes(now: float) -> None:
    check(VECTOR, SECRETS, now=now)


@pytest.mark.parametrize("now", [NOW - 301, NOW + 301, 0, NOW + 10**9])
def test_clocks_may_not_differ_by_more(now: float) -> None:
    assert "more than 300 s from now" in refused(VECTOR, SECRETS, now=now)


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        pytest.param(with_(b"webhook-id"), "webhook-id must be there once", id="no id"),
        pytest.param(with_(b"webhook-id", b"a", b"a"), "webhook-id must be there once", id="id twice"),
        pytest.param(with_(b"webhook-id", b""), "webhook-id must be there once", id="empty id"),
        pytest.param(with_(b"webhook-id", b"a b"), "webhook-id must be there once", id="space in the id"),
        pytest.param(with_(b"webhook-id", b"x" * 256), "webhook-id must be there once", id="long id"),
        pytest.param(with_(b"webhook-timestamp"), "webhook-timestamp must be there once", id="no time"),
        pytest.param(
            with_(b"webhook-timestamp", b"1614265330", b"1614265330"), "webhook-timestamp must be", id="time twice"
        ),
        pytest.param(with_(b"webhook-timestamp", b"1614265330.0"), "webhook-timestamp must be", id="fraction"),
        pytest.param(with_(b"webhook-timestamp", b"+1614265330"), "webhook-timestamp must be", id="sign"),
        pytest.param(with_(b"webhook-timestamp", b"\xd9\xa1"), "webhook-timestamp must be", id="other digits"),
        pytest.param(with_(b"webhook-timestamp", b"9" * 5000), "webhook-timestamp must be", id="endless number"),
        pytest.param(with_(b"webhook-signature", GOOD, GOOD), "webhook-signature is there twice", id="twice"),
        pytest.param(with_(b"webhook-signature", b""), "none of the form", id="empty"),
        pytest.param(with_(b"webhook-signature", GOOD[:-1]), "none of the form", id="without padding"),
        pytest.param(with_(b"webhook-signature", b"v2" + GOOD[2:]), "none of the form", id="another version"),
        pytest.param(with_(b"webhook-signature", GOOD[3:]), "none of the form", id="no version"),
        pytest.param(with_(b"webhook-signature", GOOD + b","), "none of the form", id="something behind it"),
        pytest.param(with_(b"webhook-signature", b"\xff" * 47), "none of the form", id="junk"),
        pytest.param(with_(b"webhook-signature", b" ".join([OTHER] * 17)), "too many signatures", id="too many"),
        pytest.param([*VECTOR, *token(b"secret"), *token(b"secret")], "X-Gitlab-Token is there twice", id="two tokens"),
    ],
)
def test_what_is_wrong_with_the_headers_is_seen_before_the_body(headers: Headers, reason: str) -> None:
    with pytest.raises(RejectedDelivery) as error:
        authenticate(headers, SECRETS, now=NOW)
    assert error.value.status == 401
    assert reason in error.value.__notes__[0]


@pytest.mark.parametrize(
    ("headers", "raw"),
    [
        pytest.param(VECTOR, BODY + b" ", id="longer body"),
        pytest.param(VECTOR, b"", id="no body"),
        pytest.param(with_(b"webhook-id", b"msg_other"), BODY, id="other id"),
        pytest.param(with_(b"webhook-timestamp", b"1614265331"), BODY, id="other time"),
        pytest.param(with_(b"webhook-timestamp", b"01614265330"), BODY, id="time written otherwise"),
        pytest.param(with_(b"webhook-signature", OTHER), BODY, id="other signature"),
    ],
)
@pytest.mark.parametrize("beside", [[], token(b"secret")], ids=["alone", "beside a good token"])
def test_a_signature_that_does_not_verify_is_refused_whatever_else_is_there(
    headers: Headers, raw: bytes, beside: Headers
) -> None:
    assert refused([*headers, *beside], SECRETS, raw) == "the signature does not verify"


def test_a_signature_that_nobody_can_verify_is_refused_although_the_token_is_good() -> None:
    why = refused([*VECTOR, *token(b"secret")], Secrets(tokens=(b"secret",)))
    assert why == "there is a signature, and no signing token is configured to verify it with"


def test_a_token_alone_is_not_enough_where_signatures_are_required() -> None:
    strict = Secrets(tokens=(b"secret",), keys=(KEY,), require_signature=True)
    assert refused(token(b"secret"), strict) == "there is no signature, and a token is not enough"
    check([*VECTOR, *token(b"secret")], strict)


def test_secrets_do_not_show_themselves() -> None:
    assert "secret" not in repr(Secrets(tokens=(b"secret",)))
    assert repr(KEY) not in repr(SECRETS)


def test_an_empty_key_verifies_nothing() -> None:
    signed = b64encode(hmac.digest(b"", VECTOR[0][1] + b".1614265330." + BODY, hashlib.sha256))
    refused(with_(b"webhook-signature", b"v1," + signed), Secrets(keys=(b"",)))


names = st.sampled_from([b"x-gitlab-token", b"webhook-id", b"webhook-timestamp", b"webhook-signature", b"x-other"])
values = st.binary(max_size=80) | st.sampled_from([b"1614265330", b"msg_p5jXN8AQM9LWM0D4loKWxJek", OTHER, b"v1,"])


@given(st.lists(st.tuples(names, values), max_size=8), st.binary(max_size=80), st.booleans())
def test_junk_never_passes_and_never_breaks_anything(headers: Headers, raw: bytes, strict: bool) -> None:  # noqa: FBT001 - drawn
    refused(headers, Secrets((b"correct-horse-battery",), (KEY,), require_signature=strict), raw)


@given(st.lists(st.tuples(names, values), max_size=4), st.sampled_from(VECTOR), st.binary(max_size=40))
def test_no_change_to_what_is_signed_passes(more: Headers, replaced: tuple[bytes, bytes], raw: bytes) -> None:
    changed = [*with_(replaced[0]), *more]
    if raw == BODY or (replaced in more and len(changed) == len(VECTOR)):
        return
    refused(changed, Secrets(keys=(KEY,)), raw)


@given(st.binary(min_size=32, max_size=32))
def test_only_the_very_digest_verifies(digest: bytes) -> None:
    signature = Signature(b"a.1.", (digest,))
    if hmac.compare_digest(digest, hmac.digest(KEY, b"a.1." + BODY, "sha256")):
        return
    with pytest.raises(RejectedDelivery):
        signature.verify(BODY, [KEY])
