"""A clock that stands still while a trainer does, in virtual time."""

import trio
import trio.testing

from primep2p.plugin.stopwatch import Stopwatch


def test_no_deadline_is_reached_in_a_pause_and_what_was_left_is_left_after_it() -> None:
    trio.run(pausing, clock=trio.testing.MockClock(autojump_threshold=0))


async def pausing() -> None:
    watch, ended = Stopwatch(), list[float]()

    async def wait() -> None:
        with watch.move_on_at(watch.now() + 10):
            await trio.sleep_forever()
        ended.append(trio.current_time() - begin_s)

    begin_s = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.sleep(4)
        watch.pause()
        watch.pause()
        nursery.start_soon(wait)  # begins while it stands still
        await trio.sleep(100)
        assert ended == []
        assert watch.now() == begin_s + 4
        watch.resume()
        watch.resume()
        await watch.running()
    assert ended == [110, 114]
    assert watch.now() == begin_s + 14


async def test_running_returns_when_the_last_pause_is_over() -> None:
    watch = Stopwatch()
    await watch.running()
    watch.pause()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch.running)
        await trio.testing.wait_all_tasks_blocked()
        watch.resume()
        watch.pause()
        await trio.testing.wait_all_tasks_blocked()
        assert nursery.child_tasks
        watch.resume()
