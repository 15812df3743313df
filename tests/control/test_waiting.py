"""Calls that wait for something to happen: they end with whoever asked, and keep nobody."""

from primep2p.control.async_client import Client
from primep2p.control.calls.daemon import DaemonStatus, DaemonStop
from primep2p.control.calls.jobs import JobNext, JobParams, JobReport, JobSubmit, JobUpload
from primep2p.model.views.jobs import JobAccepted, JobChunk, JobOpen, JobTaken
from tests.control.fake_jobs import JOB, PARAMS, RUN
from tests.control.test_socket import serving

PATIENT = b'{"jsonrpc":"2.0","id":1,"method":"job.next","params":{"run":"ab","worker":"patient","wait_s":50}}\n'


async def test_a_caller_that_leaves_takes_its_waiting_call_along(tmp_path):
    async with serving(tmp_path) as it:
        async with await it.connect() as stream:
            await stream.send_all(PATIENT)
            await it.node.jobs.waiting.wait()
        await it.node.jobs.given_up.wait()


async def test_the_daemon_does_not_wait_for_what_waits(tmp_path):
    async with serving(tmp_path) as it, await it.connect() as stream, Client.open(tmp_path) as other:
        await stream.send_all(PATIENT)
        await it.node.jobs.waiting.wait()
        assert (await other.call(DaemonStop())).pid
        await it.server.idle()


async def test_who_waits_is_answered_and_others_on_its_connection_before(tmp_path):
    async with serving(tmp_path) as it, await it.connect() as stream:
        await stream.send_all(PATIENT)
        await it.node.jobs.waiting.wait()
        async with Client.open(tmp_path) as other:
            assert (await other.call(DaemonStatus())).runs
        it.node.jobs.gate.set()
        received = b""
        while not received.endswith(b"\n"):
            received += await stream.receive_some(65_536)
        assert b'"answer":"accepted"' in received


async def test_every_call_of_a_job_reaches_its_verb_with_bytes_whole(tmp_path):
    async with serving(tmp_path) as it, Client.open(tmp_path) as client:
        assert isinstance(await client.call(JobNext(run=RUN)), JobAccepted)
        piece = await client.call(JobParams(job=JOB, offset=3, length=300))
        assert isinstance(piece, JobChunk)
        assert piece.data == PARAMS[3:303]
        for offset in (0, 300):
            opened = await client.call(JobUpload(job=JOB, offset=offset, data=PARAMS[:300]))
        assert isinstance(opened, JobOpen)
        assert it.node.jobs.uploaded == PARAMS[:300] * 2
        assert isinstance(await client.call(JobReport(job=JOB, step=1, loss=float("nan"))), JobOpen)
        assert it.node.jobs.asked[-1] == (JOB, 1, 0, None)  # JSON has no other word for it
        taken = await client.call(JobSubmit(job=JOB, examples=2, metrics={"loss": 0.5}))
        assert isinstance(taken, JobTaken)
        assert it.node.jobs.asked[-1] == ("", "params", 2, {"loss": 0.5}, {})
