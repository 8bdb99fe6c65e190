# SPDX-License-Identifier: MIT
"""The one link of a client, for tests that get in its way."""

from __future__ import annotations

from asyncio import Transport

from pacifica_fast import asyncio, sync
from pacifica_fast.asyncio.link import Link as AsyncioLink
from pacifica_fast.sync.link import Link as SyncLink

__all__ = ["link_of", "sync_link_of", "transport_of"]


def link_of(client: asyncio.Client) -> AsyncioLink:
    """The link that an asyncio client with one connection sends on."""
    link = client._links.use
    assert isinstance(link, AsyncioLink)
    return link


def transport_of(client: asyncio.Client) -> Transport:
    """What it writes to."""
    transport = link_of(client)._transport
    assert transport is not None
    return transport


def sync_link_of(client: sync.Client) -> SyncLink:
    """The same of a blocking client."""
    link = client._links.use
    assert isinstance(link, SyncLink)
    return link
