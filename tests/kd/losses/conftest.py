"""Give every test of a loss contract its cases: one per named variant that the loss declares."""


def pytest_generate_tests(metafunc):
    if metafunc.cls is not None and "case" in metafunc.fixturenames:
        metafunc.parametrize("case", list(metafunc.cls.cases.values()), ids=list(metafunc.cls.cases))
