"""What happens on a node, as lines of its log."""

import structlog

from primep2p.model.views.events import (
    Accused,
    AnyEvent,
    JobChanged,
    Left,
    LogLine,
    ModelContradicted,
    ModelPublished,
    ModelPulled,
    Paused,
    PeerChanged,
    PluginFailed,
    Rests,
    Resumed,
    RoundCertified,
    RunFinished,
    StepChanged,
)

__all__ = ["write_down"]

log = structlog.get_logger("primep2p.node")


def write_down(event: AnyEvent) -> None:
    """An event as a line of the log."""
    match event:
        case RoundCertified():
            log.info(
                "round certified",
                run=event.run[:8],
                round=event.round,
                participants=len(event.participants),
                signers=len(event.signers),
                void=event.void,
                seconds=round(event.seconds, 3),
            )
        case Accused(run=""):
            log.debug("accused", peer=event.peer, reason=event.reason)
        case Accused():
            log.warning("accused", run=event.run[:8], peer=event.peer, reason=event.reason)
        case PluginFailed():
            log.warning("trainer failed", run=event.run[:8], round=event.round, reason=event.sentence)
        case JobChanged():
            said = {"why": event.sentence} if event.sentence else {}
            log.info("job", run=event.run[:8], round=event.round, job=event.job, state=event.state, **said)
        case LogLine():
            log.warning(event.sentence, run=event.run[:8])
        case RunFinished():
            log.info("run finished", run=event.run[:8], round=event.round)
        case ModelPublished():
            log.info("model published", model=event.model, version=event.version)
        case ModelPulled():
            log.info("model pulled", model=event.model, bytes=event.bytes, seconds=round(event.seconds, 3))
        case ModelContradicted():
            log.warning("two records of one sequence number", model=event.model, sequence=event.sequence)
        case Left():
            log.info("run left", run=event.run[:8], round=event.round, certified=event.certified)
        case Paused() | Resumed():
            log.info("paused" if isinstance(event, Paused) else "resumed", run=event.run[:8])
        case Rests(reason=""):
            log.info("trains again", run=event.run[:8])
        case Rests():
            log.info("rests", run=event.run[:8], reason=event.reason)
        case PeerChanged():
            log.debug("peer", peer=event.peer, connected=event.connected)
        case StepChanged():
            log.debug("step", run=event.run[:8], round=event.round, view=event.view, step=event.step)
        case _:
            log.debug("event", kind=type(event).__name__, run=event.run[:8])
