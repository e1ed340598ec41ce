"""A pytest plugin that leaves out the tests which exclusions.txt names for the suite at hand."""

import fnmatch
import os

import pytest

LEFT_OUT = pytest.StashKey[int]()


def _exclusions():
    suite = os.environ["TIDEGATE_SUITE"]
    with open(os.environ["TIDEGATE_EXCLUSIONS"], encoding="utf-8") as lines:
        for line in lines:
            fields = [field.strip() for field in line.split("|")]
            if len(fields) == 3 and fields[0] == suite:
                yield fields[1], fields[2]


def pytest_configure(config):
    config.stash[LEFT_OUT] = 0


def pytest_collection_modifyitems(items):
    exclusions = list(_exclusions())
    for item in items:
        for pattern, reason in exclusions:
            if fnmatch.fnmatch(item.nodeid, pattern):
                item.add_marker(pytest.mark.skip(reason=reason))
                item.config.stash[LEFT_OUT] += 1
                break


def pytest_terminal_summary(terminalreporter, config):
    terminalreporter.write_line(f"left out: {config.stash[LEFT_OUT]}")
