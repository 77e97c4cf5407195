"""
Deliveries: as GitLab sends them, one after another, once; and as a network may garble them, when told to.

Source: https://docs.gitlab.com/user/project/integrations/webhooks/, app/models/concerns/web_hooks/auto_disabling.rb
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import json
import ssl
import threading
import time
import uuid
from collections import deque
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from tests.gitlab.world import Hook, Json, World

FAILURES_BEFORE_PAUSE = 3
FAILURES_BEFORE_END = 40
FIRST_PAUSE_SECONDS = 60
LONGEST_PAUSE_SECONDS = 24 * 3600
RESPONSE_LIMIT_BYTES = 8192


@dataclass(frozen=True)
class Delivery:
    """One request to one hook."""

    hook: Hook
    event: str
    trigger: str
    body: bytes
    key: str
    due: float = 0.0
    forced: bool = False
    """Whether it goes also to a hook that is disabled, as a test does."""


@dataclass
class Order:
    """What happens to the next deliveries: drop, duplicate, delay or hold."""

    what: str
    times: int
    seconds: float = 0.0


class Courier:
    """Sends what is handed to it, in a thread of its own."""

    def __init__(self, world: World) -> None:
        self.log: list[Json] = []
        self._world = world
        self._orders: list[Order] = []
        self._waiting: deque[Delivery] = deque()
        self._held: list[Delivery] = []
        self._busy = 0
        self._changed = threading.Condition()
        threading.Thread(target=self._run, daemon=True).start()

    def order(self, order: Order) -> None:
        with self._changed:
            self._orders.append(order)

    def forget_orders(self) -> None:
        with self._changed:
            self._orders.clear()

    def hand_over(self, hook: Hook, event: str, trigger: str, payload: Json) -> None:
        delivery = Delivery(hook, event, trigger, json.dumps(payload).encode(), str(uuid.uuid4()))
        with self._changed:
            order = next((order for order in self._orders if order.times != 0), None)
            if order is not None:
                order.times -= 1
            match order.what if order else "":
                case "drop":
                    self._note(delivery, "dropped", {})
                case "duplicate":
                    self._waiting += [delivery, delivery]
                case "delay":
                    self._waiting.append(replace(delivery, due=time.monotonic() + (order.seconds if order else 0)))
                case "hold":
                    self._held.append(delivery)
                case _:
                    self._waiting.append(delivery)
            self._changed.notify_all()

    def release(self, *, backwards: bool) -> int:
        """Send what was held; return how many they are."""
        with self._changed:
            held, self._held = self._held, []
            self._waiting += reversed(held) if backwards else held
            self._changed.notify_all()
        return len(held)

    def settle(self, seconds: float) -> bool:
        """Wait until nothing is on its way; what is held does not count."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting and not self._busy, seconds)

    def send(self, delivery: Delivery) -> Json:
        """Deliver now, and remember it. A hook that is disabled gets nothing."""
        with self._world.lock:
            if self._is_disabled(delivery.hook) and not delivery.forced:
                self._note(delivery, "disabled", {})
                return {"status": "", "error": "Hook disabled"}
            headers = self._headers(delivery)
        begun = time.monotonic()
        status, answer, error = _post(delivery, headers, self._world.settings.webhook_timeout)
        shown = headers | {name: "[REDACTED]" for name in headers if name == "X-Gitlab-Token"}
        with self._world.lock:
            self._judge(delivery.hook, status)
            event = {
                "id": self._world.next_id(),
                "url": delivery.hook.url,
                "trigger": delivery.trigger,
                "request_headers": shown,
                "request_data": json.loads(delivery.body),
                "response_headers": {},
                "response_body": answer,
                "execution_duration": time.monotonic() - begun,
                "response_status": str(status) if status else "internal error",
            }
            delivery.hook.events.insert(0, event)
            self._note(delivery, event["response_status"], shown)
        return {"status": event["response_status"], "error": error}

    def again(self, hook: Hook, event: Json) -> Json:
        """Resend a delivery, with its key."""
        headers = event["request_headers"]
        body = json.dumps(event["request_data"]).encode()
        return self.send(Delivery(hook, headers["X-Gitlab-Event"], event["trigger"], body, headers["Idempotency-Key"]))

    def _run(self) -> None:
        while True:
            with self._changed:
                delivery = self._next()
                while delivery is None:
                    self._changed.wait(0.02 if self._waiting else None)
                    delivery = self._next()
                self._busy += 1
            try:
                self.send(delivery)
            finally:
                with self._changed:
                    self._busy -= 1
                    self._changed.notify_all()

    def _next(self) -> Delivery | None:
        now = time.monotonic()
        found = next((delivery for delivery in self._waiting if delivery.due <= now), None)
        if found is not None:
            self._waiting.remove(found)
        return found

    def _headers(self, delivery: Delivery) -> dict[str, str]:
        hook = delivery.hook
        headers = {
            "Content-Type": "application/json",
            "User-Agent": f"GitLab/{self._world.settings.version}",
            "Idempotency-Key": delivery.key,
            "X-Gitlab-Event": delivery.event,
            "X-Gitlab-Webhook-UUID": str(uuid.uuid4()),
            "X-Gitlab-Instance": self._world.external_url,
            "X-Gitlab-Event-UUID": str(uuid.uuid4()),
        }
        if hook.token:
            headers["X-Gitlab-Token"] = hook.token
        if hook.signing_token:
            headers |= signed(hook.signing_token, delivery.key, str(int(time.time())), delivery.body)
        return headers

    def _is_disabled(self, hook: Hook) -> bool:
        if not self._world.settings.auto_disabling_web_hooks:
            return False
        return hook.disabled or (hook.disabled_until is not None and hook.disabled_until > time.time())

    def _judge(self, hook: Hook, status: int) -> None:
        if 200 <= status < 400:
            hook.failures, hook.disabled, hook.disabled_until = 0, False, None
            return
        if self._is_disabled(hook):
            return  # a test that failed while it was paused
        hook.failures += 1
        if not self._world.settings.auto_disabling_web_hooks or hook.failures <= FAILURES_BEFORE_PAUSE:
            return
        pause = FIRST_PAUSE_SECONDS * 2 ** (hook.failures - FAILURES_BEFORE_PAUSE - 1)
        hook.disabled_until = time.time() + min(pause, LONGEST_PAUSE_SECONDS)
        hook.disabled = hook.failures >= FAILURES_BEFORE_END

    def _note(self, delivery: Delivery, status: str, headers: dict[str, str]) -> None:
        self.log.append(
            {
                "hook": delivery.hook.id,
                "event": delivery.event,
                "key": delivery.key,
                "status": status,
                "headers": headers,
                "payload": json.loads(delivery.body),
            }
        )


def signed(token: str, message_id: str, timestamp: str, body: bytes) -> dict[str, str]:
    """Return the headers of a signature, by Standard Webhooks."""
    key = base64.b64decode(token.removeprefix("whsec_"))
    digest = hmac.new(key, f"{message_id}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    return {
        "webhook-id": message_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
    }


def _post(delivery: Delivery, headers: dict[str, str], seconds: float) -> tuple[int, str, str]:
    parts = urlsplit(delivery.hook.url)
    host = parts.hostname or ""
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        verified = delivery.hook.fields.get("enable_ssl_verification", True)
        tls = ssl.create_default_context() if verified else ssl._create_unverified_context()  # noqa: S323, SLF001
        connection = http.client.HTTPSConnection(host, parts.port, timeout=seconds, context=tls)
    else:
        connection = http.client.HTTPConnection(host, parts.port, timeout=seconds)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        connection.request("POST", target, delivery.body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read(RESPONSE_LIMIT_BYTES).decode(errors="replace"), ""
    except (OSError, http.client.HTTPException) as error:
        return 0, "", str(error) or type(error).__name__
    finally:
        connection.close()
