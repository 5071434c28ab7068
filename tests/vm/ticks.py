# SPDX-License-Identifier: Apache-2.0
"""How fast this processor's time stamp counter runs, which an emulated one's does as well.

A kernel measures it as it boots, by a timer that QEMU plays. Where QEMU has to wait for a
processor meanwhile, it comes out wrong, and the machine's clock ran six times too fast.
"""

import subprocess
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

# The two clocks are read together: of many readings, the one that took the shortest.
_SOURCE = r"""
#include <stdint.h>
#include <stdio.h>
#include <time.h>
#include <x86intrin.h>

static int64_t nanoseconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC_RAW, &now);
	return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

static void read_both(int64_t *ticks, int64_t *time)
{
	int64_t shortest = INT64_MAX;

	for (int round = 0; round < 100; round++) {
		int64_t before = nanoseconds(), between = __rdtsc(), after = nanoseconds();

		if (after - before < shortest) {
			shortest = after - before;
			*ticks = between;
			*time = before;
		}
	}
}

int main(void)
{
	const struct timespec pause = { .tv_nsec = 500000000 };
	int64_t ticks[2], time[2];

	read_both(&ticks[0], &time[0]);
	nanosleep(&pause, NULL);
	read_both(&ticks[1], &time[1]);
	printf("%.0f\n", 1e6 * (ticks[1] - ticks[0]) / (time[1] - time[0]));
}
"""


@cache
def kilohertz() -> int:
    """Thousands of ticks a second."""
    with TemporaryDirectory() as folder:
        program = Path(folder, "ticks")
        subprocess.run(
            ["gcc", "-O1", "-Wall", "-Werror", "-o", program, "-x", "c", "-"],
            input=_SOURCE, text=True, check=True,
        )  # fmt: skip
        return int(subprocess.run([program], stdout=subprocess.PIPE, check=True).stdout)
