"""A package that plugs into sweep as anyone's would: frameworks and a workload that go wrong in every way there is."""
