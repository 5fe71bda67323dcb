"""Contract tests that every plug-in passes, ours and those of other packages.

In a test module of yours, subclass ``LabelerContract`` (`al_charge.testing.labelers`),
``PotentialContract`` (`al_charge.testing.potentials`), ``AcquisitionContract``
(`al_charge.testing.acquisitions`) or ``SearchContract`` (`al_charge.testing.searches`) under a name
that starts with ``Test`` and fill in what its docstring asks for; pytest collects the tests. They
need the ``dev`` extra. The other modules are helpers of these tests and of al-charge's own.
"""
