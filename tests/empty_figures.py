"""Figures that are not drawn, for tests that say nothing about them: drawing takes most of a page's time."""


def leave_out_figures(monkeypatch):
    """Let every file of a figure be empty."""

    def save(figure, file, **how):
        file.write("<svg></svg>" if how["format"] == "svg" else b"")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", save)
