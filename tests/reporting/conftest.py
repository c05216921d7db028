"""One small report for all tests."""

import pytest
from small_report import small_report

from tta.reporting.call import Report


@pytest.fixture(scope="session")
def measured():
    return small_report()


@pytest.fixture(scope="session")
def report(measured):
    return Report.of(measured, [measured.content])


@pytest.fixture(scope="session")
def content(report):
    return report.content
