# SPDX-License-Identifier: MulanPSL-2.0
"""What a person is told who names an instance that the agent does not have. Pure."""

from agent.errors import AgentError, Code


def unknown_instance(verb: str, instance: str) -> AgentError:
    return AgentError(
        Code.INSTANCE_UNKNOWN,
        f"cannot {verb} {instance!r}: there is no such instance",
        "deepseekctl status shows what there is",
    )
