# SPDX-License-Identifier: MulanPSL-2.0
"""Of the instances. The label is `name`: Prometheus itself calls whom it reads `instance`."""

from collections.abc import Callable, Iterator

from agent.model import HOLDING, EngineWork, Phase
from agent.status.metrics.exposition import Family, Kind, Sample, one_of, sample
from agent.status.snapshot import InstanceView


def _failure(view: InstanceView) -> Iterator[Sample]:
    failure = view.failure or view.trouble
    if failure is not None:
        yield from sample(1, name=view.name, code=failure.code, remedy=failure.remedy)


def _trial(view: InstanceView) -> Iterator[Sample]:
    if view.update is not None:
        yield from sample(view.update.trial is not None, name=view.name)


def _undone(view: InstanceView) -> Iterator[Sample]:
    if view.update is not None:
        yield from sample(view.update.undone is not None, name=view.name)


def _fetch_done(view: InstanceView) -> Iterator[Sample]:
    if view.fetch is not None and (progress := view.fetch.progress) is not None:
        yield from sample(progress.done_bytes, name=view.name, item=progress.item)


def _fetch_size(view: InstanceView) -> Iterator[Sample]:
    if view.fetch is not None and (progress := view.fetch.progress) is not None:
        yield from sample(progress.total_bytes or None, name=view.name, item=progress.item)


def _of_work(
    read: Callable[[EngineWork], float | None],
) -> Callable[[InstanceView], Iterator[Sample]]:
    def samples(view: InstanceView) -> Iterator[Sample]:
        if view.work is not None:
            yield from sample(read(view.work), name=view.name)

    return samples


def _npus(view: InstanceView) -> Iterator[Sample]:
    if view.phase in HOLDING:
        yield from sample(len(view.npus), name=view.name)


INSTANCES: tuple[Family[InstanceView], ...] = (
    Family(
        "instance_info",
        Kind.GAUGE,
        "What an instance serves, and as which image.",
        lambda view: sample(
            1, name=view.name, served_name=view.served_name, image=view.image, model=view.model
        ),
    ),
    Family(
        "instance_wished",
        Kind.GAUGE,
        "It shall serve: its unit deepseek@NAME is started.",
        lambda view: sample(view.wished, name=view.name),
    ),
    Family(
        "instance_refused",
        Kind.GAUGE,
        "It is enabled, was refused at its start, and waits for a person to start it.",
        lambda view: sample(view.refused, name=view.name),
    ),
    Family(
        "instance_phase",
        Kind.GAUGE,
        "Where it stands: 1 for the phase that it is in.",
        lambda view: one_of(Phase, view.phase, "phase", name=view.name),
    ),
    Family(
        "instance_phase_since_timestamp_seconds",
        Kind.GAUGE,
        "Since when it is in this phase.",
        lambda view: sample(view.since, name=view.name),
    ),
    Family(
        "instance_serving",
        Kind.GAUGE,
        "It has answered, and no failure has been seen since.",
        lambda view: sample(view.phase is Phase.SERVING, name=view.name),
    ),
    Family(
        "instance_trouble",
        Kind.GAUGE,
        "It serves, and is not well, or cannot be reached.",
        lambda view: sample(view.trouble is not None, name=view.name),
    ),
    Family(
        "instance_failure",
        Kind.GAUGE,
        "Why it does not serve, or is not well: the code, and who can mend it.",
        _failure,
    ),
    Family(
        "instance_failures",
        Kind.GAUGE,
        "Failures in a row.",
        lambda view: sample(view.failures, name=view.name),
    ),
    Family(
        "instance_restarts_total",
        Kind.COUNTER,
        "Engines started in place of one that had failed.",
        lambda view: sample(view.restarts, name=view.name),
    ),
    Family("instance_npus", Kind.GAUGE, "NPUs that it has.", _npus),
    Family(
        "instance_degraded",
        Kind.GAUGE,
        "It runs on fewer NPUs than it should.",
        lambda view: sample(bool(view.degraded), name=view.name),
    ),
    Family(
        "instance_restart_pending",
        Kind.GAUGE,
        "Its configuration, API key or certificate has changed since its start.",
        lambda view: sample(view.restart_pending, name=view.name),
    ),
    Family(
        "instance_certificate_expiry_timestamp_seconds",
        Kind.GAUGE,
        "When clients will refuse the certificate that its engine shows.",
        lambda view: sample(view.certificate_expires_at, name=view.name),
    ),
    Family(
        "instance_on_hold",
        Kind.GAUGE,
        "A person wants it stopped until it is released.",
        lambda view: sample(view.hold is not None, name=view.name),
    ),
    Family(
        "instance_update_on_trial",
        Kind.GAUGE,
        "A newer image or model is on trial.",
        _trial,
    ),
    Family(
        "instance_update_undone",
        Kind.GAUGE,
        "The latest update failed: it went back to what it ran on before.",
        _undone,
    ),
    Family(
        "instance_fetch_done_bytes", Kind.GAUGE, "What is there of what is fetched.", _fetch_done
    ),
    Family("instance_fetch_size_bytes", Kind.GAUGE, "Size of what is fetched.", _fetch_size),
    Family(
        "engine_requests_running",
        Kind.GAUGE,
        "Requests that the engine works on.",
        _of_work(lambda work: work.requests_running),
    ),
    Family(
        "engine_requests_waiting",
        Kind.GAUGE,
        "Requests that wait for it.",
        _of_work(lambda work: work.requests_waiting),
    ),
    Family(
        "engine_requests_finished_total",
        Kind.COUNTER,
        "Requests that it has done.",
        _of_work(lambda work: work.requests_finished),
    ),
    Family(
        "engine_prompt_tokens_total",
        Kind.COUNTER,
        "Tokens that it has read.",
        _of_work(lambda work: work.prompt_tokens),
    ),
    Family(
        "engine_generation_tokens_total",
        Kind.COUNTER,
        "Tokens that it has made.",
        _of_work(lambda work: work.generation_tokens),
    ),
    Family(
        "engine_first_tokens_total",
        Kind.COUNTER,
        "Answers that have begun.",
        _of_work(lambda work: work.first_tokens),
    ),
    Family(
        "engine_first_token_wait_seconds_total",
        Kind.COUNTER,
        "From request to first token, of all answers together.",
        _of_work(lambda work: work.first_token_wait_s),
    ),
    Family(
        "engine_preemptions_total",
        Kind.COUNTER,
        "Requests that it put off because the memory for them did not suffice.",
        _of_work(lambda work: work.preemptions),
    ),
    Family(
        "engine_kv_cache_usage_ratio",
        Kind.GAUGE,
        "How much of its memory for requests is in use.",
        _of_work(lambda work: work.kv_cache_ratio),
    ),
)
