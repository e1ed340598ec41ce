//! TCP flows over smoltcp, one stack per RSS queue.
