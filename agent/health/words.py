# SPDX-License-Identifier: MulanPSL-2.0
"""A verdict as a failure, with what it rests on. Pure."""

from typing import assert_never

from agent.errors import Code, Failure
from agent.health.state import Liveness, Verdict

REPLACED = "it is replaced by itself; what was seen of it is in the evidence: deepseekctl events"
UNCOUNTED = (
    "while it gives no token it is replaced after 30 min only; is --disable-log-stats in "
    "vllm.extra_args? Else its vLLM is newer than this agent: update deepseek-agent"
)


def uncounted(name: str, lacks: tuple[str, ...]) -> Failure:
    """Of an engine that does not say how much it works."""
    return Failure(
        Code.COUNTERS_UNKNOWN,
        f"cannot follow the work of {name}: its /metrics does not have {', '.join(lacks)}",
        UNCOUNTED,
    )


def not_forwarded(address: str) -> Failure:
    """Of an engine whose container has that address."""
    setting = "net.ipv6.conf.all.forwarding" if ":" in address else "net.ipv4.ip_forward"
    return Failure(
        Code.PORT_CUT,
        f"cannot be reached from other hosts: the kernel forwards nothing ({setting} is 0)",
        "settings were put in force again (sysctl --system); Podman sets it back by itself; "
        "find the file that has it as 0: grep -r forward /etc/sysctl.conf /etc/sysctl.d",
    )


def explain(verdict: Verdict, state: Liveness, now: float) -> Failure:
    """`state` as it was when the verdict was given, at `now`."""
    match verdict:
        case Verdict.HUNG:
            busy = "it says that requests wait" if state.busy else "it says that it is idle"
            busy = "its counters are not understood" if state.uncounted else busy
            why = (
                f"the engine hangs: no token for {now - state.life_at:.1f} s, {state.misses} "
                f"canaries unanswered, {busy}, and its API server answers"
            )
            return Failure(Code.ENGINE_HUNG, f"cannot keep serving: {why}", REPLACED)
        case Verdict.SILENT:
            why = f"the engine hangs: nothing in it has answered for {now - state.life_at:.1f} s"
            return Failure(Code.ENGINE_HUNG, f"cannot keep serving: {why}", REPLACED)
        case Verdict.REFUSES:
            why = f"nobody listens in the container any more ({state.refusals} times refused)"
            return Failure(Code.ENGINE_FAILED, f"cannot keep serving: {why}", REPLACED)
        case Verdict.FAILED:
            why = f"its API server says that the engine is dead ({state.ills} times)"
            return Failure(Code.ENGINE_FAILED, f"cannot keep serving: {why}", REPLACED)
        case Verdict.CUT:
            return Failure(
                Code.PORT_CUT,
                "cannot be reached: the engine answers in its container, and not at its port",
                "firewall rules were flushed or reloaded; Podman's are put back by themselves",
            )
        case _:
            assert_never(verdict)
