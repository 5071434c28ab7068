# SPDX-License-Identifier: Apache-2.0
"""A browser in a network of the lab's."""

from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser

from cloud_toa.demo.lab import Lab
from cloud_toa.isolation import Namespace
from tests.console.conftest import ARGUMENTS


@contextmanager
def browser_in(namespace: Namespace, lab: Lab, other: Browser) -> Iterator[Browser]:
    """A second browser, which sees only this network."""
    program = lab.files / "chromium"
    program.write_text(f'#!/bin/sh\nexec nsenter --net={namespace.path} chromium "$@"\n')
    program.chmod(0o755)
    browser = other.browser_type.launch(executable_path=program, args=list(ARGUMENTS))
    try:
        yield browser
    finally:
        browser.close()
