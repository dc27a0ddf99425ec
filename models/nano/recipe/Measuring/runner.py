# Runs in a process of its own, in an empty folder: calls each item's function on its cases and prints one line per case.
import json
import signal
import sys


def late(signum, frame):
    raise TimeoutError()


def outcome(function, arguments):
    try:
        return "=" + json.dumps(function(*arguments))
    except BaseException as error:
        return "!" + type(error).__name__


def main():
    items = json.load(open(sys.argv[1]))
    seconds = int(sys.argv[2]) / 1000
    # The limit is one of computing: on a busy machine an item may wait longer for its turn. Waiting ends in any case.
    timers = []
    if hasattr(signal, "setitimer"):
        timers = [(signal.ITIMER_PROF, seconds), (signal.ITIMER_REAL, 15 * seconds)]
        signal.signal(signal.SIGPROF, late)
        signal.signal(signal.SIGALRM, late)
    for item in items:
        space = {}
        fault = None
        for timer, limit in timers:
            signal.setitimer(timer, limit)
        try:
            exec(compile(open(item["item"] + ".py").read(), item["item"], "exec"), space)
        except BaseException as error:
            fault = "!" + type(error).__name__
        functions = [value for key, value in space.items() if type(value).__name__ == "function"]
        function = space.get(item["method"]) or (functions[-1] if functions else None)
        for index, case in enumerate(item["cases"]):
            result = fault or ("!NoSuchMethod" if function is None else outcome(function, case))
            print(item["item"], index, result, sep="\t", flush=True)
        for timer, _ in timers:
            signal.setitimer(timer, 0)


main()
