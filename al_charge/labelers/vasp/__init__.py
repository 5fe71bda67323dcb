"""The VASP labeler: PBE+U through atomate2's input sets, run by custodian."""
