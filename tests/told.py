"""A progress that keeps its reports, for tests of what is reported."""

from policykd.progress import Silent


class Told(Silent):
    def __init__(self):
        self.all = []

    def begin(self, name, total, unit):
        self.all.append((name, total, unit))

    def update(self, name, done, **figures):
        self.all.append((name, done, figures))

    def end(self, name, message=""):
        self.all.append((name, message))
