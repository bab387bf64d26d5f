"""What both frontends talk to: source frames in, hr frames out, in any order of requests.

planner decides (integers only), stores hold, runner computes, session locks, driver loops.
"""

from vs_iconvsr.streaming.driver import Fetched, iterate
from vs_iconvsr.streaming.frames import HrFrame
from vs_iconvsr.streaming.session import Counts, Session

__all__ = ["Counts", "Fetched", "HrFrame", "Session", "iterate"]
