"""When a directory that failed is worth another try."""

import trio

from primep2p.net.host import Host

__all__ = ["until_worth_a_try"]


async def until_worth_a_try(host: Host, retry_s: float) -> None:
    """Until somebody is connected the directory is of no use, and then it is at once; among connected peers it is asked
    again after `retry_s`."""
    if host.connected:
        await trio.sleep(retry_s)
        return
    async with host.peer_events() as events:
        await anext(aiter(events))
