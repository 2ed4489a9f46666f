"""Tells stories, one after the other, and counts."""

import shutil
import sys
import time


class Teller:
    """Stories, one after the other, and the world that they are told in."""

    def __init__(self, world, stories):
        self.world = world
        self.stories = stories
        self.passed = self.failed = 0

    def tell(self):
        if self.stories and self.try_one("the world begins", self.begin):
            self.passed = sum(self.try_one(name, story, *arguments) for name, story, arguments in self.stories)

    @staticmethod
    def begin(world):
        world.start()
        world.start_agent()

    def try_one(self, name, story, *arguments):
        began = time.monotonic()
        try:
            story(self.world, *arguments)
            print(f"ok    {name} ({time.monotonic() - began:.1f} s)", flush=True)
            return True
        except Exception as error:  # a story may fail in any way; the others still run
            self.failed += 1
            print(f"FAIL  {name}: {type(error).__name__}: {error}", flush=True)
            self.world.end_sessions()
            return False
        finally:
            self.world.end_clients()

    def end(self):
        self.world.end()
        if self.failed:
            with open(self.world.path("log"), "rb") as log:
                sys.stdout.write(log.read()[-20000:].decode("utf-8", "replace"))
        shutil.rmtree(self.world.root, ignore_errors=True)
