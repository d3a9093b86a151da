# SPDX-License-Identifier: MulanPSL-2.0
"""Asks a hub: in a source, out a `Listing` of what it offers."""

from typing import assert_never

from agent.supplies import Hub, ModelSource
from agent.supply.hub import huggingface, modelscope
from agent.supply.hub.listing import Listing
from agent.supply.net import HubClient


def list_files(client: HubClient, source: ModelSource) -> Listing:
    """Raises AgentError."""
    match source.hub:
        case Hub.HUGGINGFACE:
            return huggingface.list_files(client, source)
        case Hub.MODELSCOPE:
            return modelscope.list_files(client, source)
        case _:
            assert_never(source.hub)
