"""Jobs in Python: one story under asyncio, under trio and with the blocking client, with a shared disk and without."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import numpy as np
import pytest

from primep2p import blocking
from primep2p.model.errors import CallError
from primep2p.model.views.jobs import JobRefused, JobRejected
from primep2p.sdk.client import Client
from primep2p.sdk.jobs import NoJob, Receipt
from tests.control.fake_jobs import JOB, PARAMS, RUN, TENSORS
from tests.control.test_async_client import LIMIT_S, Served, served

W = np.arange(350_000, dtype=np.float32).reshape(500, 700)


class Blocking:
    """The blocking client, to be awaited: so that one story tells of both."""

    def __init__(self, home: Path) -> None:
        self._client = blocking.Client(home)

    async def next_job(self, run: str, **options: Any) -> Any:
        job = await anyio.to_thread.run_sync(lambda: self._client.next_job(run, **options))
        return Awaited(job) if job.accepted else job

    async def jobs(self, run: str) -> Any:
        for job in await anyio.to_thread.run_sync(lambda: list(self._client.jobs(run))):
            yield job

    async def __aenter__(self) -> "Blocking":
        return self

    async def __aexit__(self, *error: object) -> None:
        self._client.close()


class Awaited:
    def __init__(self, job: Any) -> None:
        self._job = job

    def __getattr__(self, name: str) -> Any:
        return getattr(self._job, name)

    async def report(self, *given: Any, **more: Any) -> float:
        return await anyio.to_thread.run_sync(lambda: self._job.report(*given, **more))

    async def submit(self, **given: Any) -> Receipt:
        return await anyio.to_thread.run_sync(lambda: self._job.submit(**given))


@pytest.fixture(params=["asyncio", "trio", "blocking"])
def told(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Any], None]:
    """Runs a story with the client that it is told with."""

    def run(story: Any, *, shares_disk: bool = True) -> None:
        async def bounded(it: Served) -> None:
            with anyio.fail_after(LIMIT_S):
                async with Blocking(it.home) if is_blocking else Client.open(it.home) as client:
                    await story(it.node.jobs, client)

        is_blocking = request.param == "blocking"
        with served(tmp_path) as it:
            if shares_disk:
                (tmp_path / "params.safetensors").write_bytes(PARAMS)
            it.node.jobs.path = str(tmp_path / "params.safetensors")
            anyio.run(bounded, it, backend="asyncio" if is_blocking else request.param)

    return run


@pytest.mark.parametrize("shares_disk", [True, False])
def test_a_job_brings_params_takes_reports_and_an_update(told, shares_disk):
    async def story(jobs: Any, client: Any) -> None:
        job = await client.next_job(RUN, wait_s=3, worker="me")
        assert jobs.asked[0] == (RUN, "me", 3)
        assert job.accepted
        assert (job.id, job.run, job.round, job.seed, dict(job.config)) == (JOB, RUN, 4, 7, {"epochs": 2})
        assert 50 < job.left_s < 60
        params = job.params()
        np.testing.assert_array_equal(params["w"], W)
        assert params["b"].shape == ()
        assert params["b"] == 350_000
        assert not params["w"].flags.writeable
        assert await job.report(3, np.float32(0.5), steps=9) == 30.25
        assert jobs.asked[-1] == (JOB, 3, 9, 0.5)
        after = {"w": params["w"] + 1, "b": np.float64(2)}
        receipt = await job.submit(params=after, examples=5, metrics={"loss": np.float32(0.5)}, evaluated={"x": 1})
        assert receipt == Receipt(taken=True)
        path, *rest = jobs.asked[-1]
        assert rest == ["params", 5, {"loss": 0.5}, {"x": 1.0}]
        assert bool(path) == shares_disk
        assert np.frombuffer(bytes(jobs.uploaded[-4 * 350_001 :]), "<f4").tolist() == [*(W + 1).reshape(-1), 2]

    told(story, shares_disk=shares_disk)


def test_an_update_may_be_a_delta_and_one_that_is_too_late_is_no_error(told):
    async def story(jobs: Any, client: Any) -> None:
        job = await client.next_job(RUN)
        delta = {tensor.name: np.zeros(tensor.shape) for tensor in TENSORS}
        assert (await job.submit(delta=delta, examples=1)).taken
        assert jobs.asked[-1][1] == "delta"
        for reason in ("late", "stale", "twice"):
            jobs.refused = JobRefused(job=JOB, reason=reason, sentence="too late")
            assert await job.submit(delta=delta, examples=1) == Receipt(False, reason, "too late")
            assert await job.report(1) == 0.0
        jobs.refused = JobRefused(job=JOB, reason="malformed", sentence="tensor 'w' has a value that is not finite")
        with pytest.raises(CallError, match="not finite"):
            await job.submit(delta=delta, examples=1)

    told(story)


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"b": None}, "params and the run's tensors differ in b"),
        ({"x": np.zeros(2)}, "differ in x"),
        ({"w": W.T}, r"'w' has shape \(700, 500\), the run's has \(500, 700\)"),
        ({"b": np.int64(3)}, "'b' is int64, and must be floats"),
    ],
)
def test_arrays_that_are_not_the_runs_are_refused_before_they_are_sent(told, changed, sentence):
    async def story(jobs: Any, client: Any) -> None:
        job = await client.next_job(RUN)
        made = {**job.params(), **changed}
        asked = len(jobs.asked)
        with pytest.raises(ValueError, match=sentence):
            await job.submit(params={name: array for name, array in made.items() if array is not None}, examples=1)
        with pytest.raises(ValueError, match="either params or a delta"):
            await job.submit(examples=1)
        assert len(jobs.asked) == asked

    told(story)


def test_where_there_is_no_job_the_reason_and_when_to_come_again_are_told(told):
    async def story(jobs: Any, client: Any) -> None:
        jobs.rejected = JobRejected(run=RUN, reason="not-drawn", sentence="not this time", retry_after_s=2.5)
        nothing = await client.next_job(RUN, wait_s=0)
        assert nothing == NoJob("not-drawn", "not this time", 2.5)
        assert not nothing.accepted

    told(story)


def test_jobs_come_one_after_the_other_until_there_will_never_be_one(told):
    async def story(jobs: Any, client: Any) -> None:
        jobs.then = [2, JobRejected(run=RUN, reason="finished", sentence="over", retry_after_s=None)]
        assert [job.round async for job in client.jobs(RUN)] == [4, 4]

    told(story)


def test_params_that_cannot_be_had_any_more_are_no_job(told):
    async def story(jobs: Any, client: Any) -> None:
        jobs.refused = JobRefused(job=JOB, reason="stale", sentence="round 4 is not under way")
        assert await client.next_job(RUN) == NoJob("missed", "the round was over before its params were here", 0.0)

    told(story, shares_disk=False)
