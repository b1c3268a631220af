"""Tests of the Python module, against the installed program: python python/test_quantbound.py"""

import json
import tempfile
import unittest
from pathlib import Path

import quantbound

ROOT = Path(__file__).resolve().parent.parent
NETWORK = ["--model", "cifar_resnet20", "--weights", "random:1"]


class Module(unittest.TestCase):
    def test_what_the_program_prints_comes_back(self):
        done = quantbound.run(["inspect", *NETWORK, "--json"])
        self.assertEqual(json.loads(done.stdout)["totals"]["layers"], 22)

    def test_exit_codes_are_errors_with_the_message(self):
        with self.assertRaises(quantbound.Failed) as caught:
            quantbound.run(["inspect", "--model", "no-such-network"])
        self.assertEqual(caught.exception.code, 2)
        self.assertIn("no-such-network", str(caught.exception))
        done = quantbound.run(["inspect", "--model", "no-such-network"], check=False)
        self.assertEqual(done.returncode, 2)

    def test_a_run_is_loaded_and_what_is_missing_is_named(self):
        with tempfile.TemporaryDirectory() as scratch:
            out = Path(scratch) / "run"
            quantbound.run(["run", *NETWORK, "--images", ROOT / "datasets/imagenet-samples", "--limit", "2", "--bits", "8",
                            "--bounds", "layerwise", "--out", out])
            run = quantbound.load(out)
            self.assertTrue(run.holds)
            self.assertIn("measurements", run.tables)
            rows = run.table("measurements")
            self.assertEqual(len(rows), 2 * 22)
            self.assertIn("max_abs_diff", rows.columns)
            with self.assertRaises(FileNotFoundError) as caught:
                run.table("nothing")
            self.assertIn("measurements", str(caught.exception))
        with self.assertRaises(FileNotFoundError):
            quantbound.load(out)


unittest.main()
