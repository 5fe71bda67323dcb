"""Contract tests that every potential and every labeler passes, ours and those of other packages.

In a test module of yours, subclass ``LabelerContract`` (`al_charge.testing.labelers`) or
``PotentialContract`` (`al_charge.testing.potentials`) under a name that starts with ``Test`` and
fill in what its docstring asks for; pytest collects the tests. They need the ``dev`` extra. The
other modules are what these tests, and those of al-charge itself, are made from.
"""
