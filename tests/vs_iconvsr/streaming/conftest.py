"""Every hr frame of the clip, requested in order."""

import pytest

from tests.vs_iconvsr.streaming.clip import Clip, open_session
from vs_iconvsr.networks.propagation import VideoNetwork
from vs_iconvsr.streaming import HrFrame


@pytest.fixture(scope="session")
def reference(tiny_network: VideoNetwork) -> list[HrFrame]:
    with open_session(tiny_network) as session:
        return Clip().play(session)
