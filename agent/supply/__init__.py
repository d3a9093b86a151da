# SPDX-License-Identifier: MulanPSL-2.0
"""Brings image and model: a process of root's, one for each order, that outlives the agent's own.

In: an `Order` (`agent.supplies`), the hubs, the registries, the import folder. Out: files below
models_dir that are whole from the moment in which they can be seen, an image in Podman's storage,
and meanwhile a `Progress`, in the end a `Report`.
"""
