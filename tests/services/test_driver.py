"""The pump: what came first is done first."""

import trio

from primep2p.core import effects as fx
from primep2p.services.driver import Driver


async def test_it_has_settled_once_the_effects_of_what_came_before_are_performed() -> None:
    done: list[object] = []

    def handle(event: fx.Event) -> list[fx.Effect]:
        assert isinstance(event, fx.Connected)
        return [fx.AskRecords(event.peer)]

    async def perform(effects: list[fx.Effect]) -> None:
        for effect in effects:
            await trio.sleep(0.01)
            done.append(effect)

    driver = Driver(handle, perform)
    async with trio.open_nursery() as nursery:
        await nursery.start(driver.run, [])
        for peer in ("a", "b"):
            await driver.inbox.send(fx.Connected(peer))
        await driver.settled()
        assert done == [fx.AskRecords("a"), fx.AskRecords("b")]
        await driver.settled()  # also when there is nothing to do
        nursery.cancel_scope.cancel()
