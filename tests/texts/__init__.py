# SPDX-License-Identifier: MulanPSL-2.0
"""Texts of the package that are made of others: manual pages and shell completion.

In: the parsers of deepseekctl, etc/agent.toml, docs/man/*.md. Out: what is committed beside them,
so that the package is built without these tools. `make texts` writes it, tests/static looks
whether it is fresh.
"""
