"""Memory that was freed is not mapped again."""

import platform
import subprocess
import sys

import pytest

COUNT_FAULTS = """
import resource, sys
from rbctrl.memory import keep_freed_memory

def round_of_buffers():
    return [bytearray(b"1") * (4 * 2**20) for _ in range(8)]

kept = sys.argv[1] == "kept" and keep_freed_memory()
for _ in range(3):
    round_of_buffers()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    round_of_buffers()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc")
def test_freed_buffers_are_not_faulted_in_again():
    def faults(how):
        command = [sys.executable, "-c", COUNT_FAULTS, how]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    assert faults("kept") < 1000 < faults("returned")
