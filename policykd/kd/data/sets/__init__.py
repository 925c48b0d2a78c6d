"""One file per data set, which holds a :class:`policykd.kd.data.data_set.DataSet` as ``DATA_SET``.

It only reads: preparing, splitting and training happen elsewhere.
"""
