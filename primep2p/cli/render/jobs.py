"""Jobs, for people."""

from primep2p.cli.render.printing import duration, many, say
from primep2p.model.views.jobs import JobAccepted, JobOpen, JobTaken

__all__ = ["show_job", "show_open", "show_saved", "show_taken"]


def show_job(job: JobAccepted) -> None:
    """What there is to be trained, and until when."""
    say(f"job       {job.job}")
    say(f"round     {job.round}, {duration(job.left_s)} left")
    say(f"params    {job.path}")
    say(f"seed      {job.seed}")
    for key, value in job.config.items():
        say(f"config    {key} = {value}")


def show_open(job: JobOpen) -> None:
    """That it is still to be done."""
    say(f"{job.job}: {duration(job.left_s)} left")


def show_taken(job: JobTaken) -> None:
    """What became of it."""
    say(f"{job.job}: taken, an update by {many(job.examples, 'example')} after {duration(job.seconds)}")


def show_saved(path: str, size_bytes: int) -> None:
    """Where the params are now."""
    say(f"{path}: {many(size_bytes, 'byte')}")
