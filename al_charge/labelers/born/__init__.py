"""An analytic ionic model for demos, tests and benchmarks, behind the labeler protocol."""
