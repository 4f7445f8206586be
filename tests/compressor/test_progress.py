import io

from rich.console import Console

from ortrim.compressor.progress import SearchProgress


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def screen(terminal):
    return Console(file=io.StringIO(), force_terminal=terminal, width=120)


def test_a_terminal_gets_a_bar():
    console = screen(True)
    with SearchProgress(200, console=console) as progress:
        progress.update(40, best=0.91234, ratio=0.5981)
        progress.note("a note [with brackets]")
    text = console.file.getvalue()
    assert "40/200" in text
    assert "best mark 91.23 % at 0.598x" in text
    assert "a note [with brackets]" in text


def test_a_bar_leaves_the_cursor_when_interrupted():
    console = screen(True)
    try:
        with SearchProgress(200, console=console) as progress:
            progress.update(1)
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    assert console.file.getvalue().endswith("\x1b[?25h")


def test_elsewhere_a_line_now_and_then():
    console, clock = screen(False), Clock()
    with SearchProgress(100, done=50, console=console, interval=30, clock=clock) as progress:
        for done in range(51, 101):
            clock.now += 10
            progress.update(done, *((0.5, 0.6) if done > 53 else ()))
    lines = console.file.getvalue().splitlines()
    assert lines[0] == "search 53/100, none meets the target yet, 8 min left"
    assert lines[1] == "search 56/100, best mark 50.00 % at 0.600x, 7 min left"
    assert lines[-1] == "search 100/100, best mark 50.00 % at 0.600x"
    assert len(lines) == 50 // 3 + 1
    assert "\x1b" not in console.file.getvalue()


def test_standard_output_stays_clean(capsys):
    with SearchProgress(2) as progress:
        progress.update(2, best=1.0, ratio=0.5)
        progress.note("done")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "search 2/2" in captured.err
    assert "done" in captured.err
