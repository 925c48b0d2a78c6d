"""One file per data set, which holds a :class:`policykd.kd.data.data_set.DataSet` as ``DATA_SET``."""
