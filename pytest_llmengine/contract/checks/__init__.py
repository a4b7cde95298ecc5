"""The checks of the contract, one file per group."""
