# SPDX-License-Identifier: MIT
"""Templates, and finished cancels: see ``csrc/pf_cancel.h``."""

from __future__ import annotations

import re
import weakref
from dataclasses import dataclass
from itertools import count
from typing import Any

from pacifica_fast import reference
from pacifica_fast._pure import ids, keys
from pacifica_fast._pure.base58 import decoded
from pacifica_fast._pure.clock import stamp
from pacifica_fast._pure.memory import C, Code, coded, ffi, put, taken

__all__ = [
    "Template",
    "cancel",
    "envelope",
    "of_order",
    "pf_batch_cancel",
    "pf_blank_order_id",
    "pf_cancel_all_orders",
    "pf_cancel_client_order_id",
    "pf_cancel_order_id",
    "pf_is_uuid",
    "pf_template_make",
    "pf_template_set_clock",
    "template_of",
]

SYMBOL_MAX = 32
_UUID = re.compile(rb"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_PLAIN = re.compile(rb"[ !#-\[\]-~]*")


@dataclass(slots=True)
class Template:
    """What does not change between requests: see ``struct pf_template``."""

    kind: int
    key: int
    pool: int
    account: str
    agent: str
    symbol: str
    exclude_reduce_only: bool
    window: int
    clock: Any = None

    def sign(self, message: str) -> str:
        """The signature in base58."""
        return reference.b58encode(keys.sign(self.key, message.encode(), self.pool))

    def head(self, signature: str, timestamp: int) -> str:
        """What every signed object starts with, up to ``expiry_window``."""
        agent = f'","agent_wallet":"{self.agent}' if self.agent else ""
        return (
            f'{{"account":"{self.account}{agent}","signature":"{signature}",'
            f'"timestamp":{timestamp},"expiry_window":{self.window}'
        )


_templates: dict[int, Template] = {}
_numbers = count(1)


def template_of(t: Any) -> Template:
    """What is behind a ``pf_template *``."""
    return _templates[t.number]


def is_uuid(text: bytes) -> bool:
    return _UUID.fullmatch(text) is not None


def pf_is_uuid(text: Any, size: int) -> int:
    return int(size == 36 and is_uuid(taken(text, size)))


def _is_pubkey(text: bytes) -> bool:
    try:
        return len(text) <= 44 and len(decoded(text)) == 32
    except Code:
        return False


def pf_template_make(
    t: Any,
    kind: int,
    key: Any,
    pool: Any,
    account: Any,
    account_len: int,
    agent: Any,
    agent_len: int,
    symbol: Any,
    symbol_len: int,
    exclude_reduce_only: int,
    expiry_window: int,
) -> int:
    texts = taken(account, account_len), taken(agent, agent_len), taken(symbol, symbol_len)
    has_symbol = {C.PF_CANCEL_ORDER: symbol_len > 0, C.PF_CANCEL_ALL: True, C.PF_OPERATION: symbol_len == 0}
    if (
        not has_symbol.get(kind)
        or symbol_len > SYMBOL_MAX
        or not _PLAIN.fullmatch(texts[2])
        or expiry_window <= 0
        or not _is_pubkey(texts[0])
        or not (agent_len == 0 or _is_pubkey(texts[1]))
    ):
        return int(C.PF_ERR_ARGUMENT)
    t.number = number = next(_numbers)
    _templates[number] = Template(
        kind=kind,
        key=key.generation,
        pool=pool.generation if pool else 0,
        account=texts[0].decode(),
        agent=texts[1].decode(),
        symbol=texts[2].decode(),
        exclude_reduce_only=bool(exclude_reduce_only),
        window=expiry_window,
    )
    # Not at exit: daemon threads may still sign with it.
    weakref.finalize(t, _templates.pop, number, None).atexit = False
    return 0


def pf_template_set_clock(t: Any, clock: Any) -> None:
    template_of(t).clock = clock


def envelope(number: int, request_id: Any, id_len: int) -> str:
    """What a request starts with; the id is chosen as ``csrc/pf_api.h`` says."""
    text = taken(request_id, id_len)
    if text and not is_uuid(text):
        raise Code(C.PF_ERR_ARGUMENT)
    own_id = text.decode() if text else ids.text_of(number or ids.take(1))
    return f'{{"id":"{own_id}","params":{{"'


def of_order(order_id: int, client_order_id: bytes) -> str:
    """The member that names an order."""
    if client_order_id:
        return f'"client_order_id":"{client_order_id.decode()}"'
    return f'"order_id":{order_id}'


def _signed_order(t: Template, order: str, timestamp: int) -> str:
    message = (
        f'{{"data":{{{order},"symbol":"{t.symbol}"}},"expiry_window":{t.window},'
        f'"timestamp":{timestamp},"type":"cancel_order"}}'
    )
    return f'{t.head(t.sign(message), timestamp)},"symbol":"{t.symbol}",{order}}}'


def cancel(
    t: Template, order: str, timestamp: int, number: int, request_id: Any = None, id_len: int = 0
) -> bytes:
    """The request that cancels one order."""
    timestamp = stamp(t.clock, timestamp)
    if t.kind != C.PF_CANCEL_ORDER:
        raise Code(C.PF_ERR_ARGUMENT)
    head = envelope(number, request_id, id_len)
    return f'{head}cancel_order":{_signed_order(t, order, timestamp)}}}}}'.encode()


@coded
def pf_cancel_order_id(
    out: Any,
    cap: int,
    t: Any,
    order_id: int,
    timestamp: int,
    number: int,
    request_id: Any,
    id_len: int,
) -> int:
    order = of_order(order_id, b"")
    return put(out, cap, cancel(template_of(t), order, timestamp, number, request_id, id_len))


def pf_blank_order_id(blank: Any, order_id: int, timestamp: int) -> int:
    return pf_cancel_order_id(blank.out, blank.cap, blank.t, order_id, timestamp, 0, None, 0)


@coded
def pf_cancel_client_order_id(
    out: Any,
    cap: int,
    t: Any,
    client_order_id: Any,
    client_len: int,
    timestamp: int,
    number: int,
    request_id: Any,
    id_len: int,
) -> int:
    client = taken(client_order_id, client_len)
    if not is_uuid(client):
        return int(C.PF_ERR_ARGUMENT)
    order = of_order(0, client)
    return put(out, cap, cancel(template_of(t), order, timestamp, number, request_id, id_len))


@coded
def pf_cancel_all_orders(
    out: Any, cap: int, t: Any, timestamp: int, number: int, request_id: Any, id_len: int
) -> int:
    template = template_of(t)
    timestamp = stamp(template.clock, timestamp)
    if template.kind != C.PF_CANCEL_ALL:
        return int(C.PF_ERR_ARGUMENT)
    head = envelope(number, request_id, id_len)
    symbol = f',"symbol":"{template.symbol}"' if template.symbol else ""
    fields = (
        f'"all_symbols":{"false" if symbol else "true"},'
        f'"exclude_reduce_only":{"true" if template.exclude_reduce_only else "false"}{symbol}'
    )
    message = (
        f'{{"data":{{{fields}}},"expiry_window":{template.window},'
        f'"timestamp":{timestamp},"type":"cancel_all_orders"}}'
    )
    signed = f"{template.head(template.sign(message), timestamp)},{fields}}}"
    return put(out, cap, f'{head}cancel_all_orders":{signed}}}}}'.encode())


def _batch_item(item: Any, timestamp: int) -> str:
    template = template_of(item.order) if item.order else None
    client = bytes(ffi.buffer(item.client_order_id)) if item.by_client_order_id else b""
    if template is None or template.kind != C.PF_CANCEL_ORDER or (client and not is_uuid(client)):
        raise Code(C.PF_ERR_ARGUMENT)
    order = of_order(item.order_id, client)
    return f'{{"type":"Cancel","data":{_signed_order(template, order, timestamp)}}}'


@coded
def pf_batch_cancel(
    out: Any, cap: int, items: Any, count: int, timestamp: int, number: int, request_id: Any, id_len: int
) -> int:
    if not 1 <= count <= C.PF_BATCH_ITEMS_MAX or not items[0].order:
        return int(C.PF_ERR_ARGUMENT)
    timestamp = stamp(template_of(items[0].order).clock, timestamp)
    head = envelope(number, request_id, id_len)
    actions = ",".join(_batch_item(items[index], timestamp) for index in range(count))
    return put(out, cap, f'{head}batch_orders":{{"actions":[{actions}]}}}}}}'.encode())
