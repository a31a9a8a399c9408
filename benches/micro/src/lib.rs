//! Room for the criterion benches of head, route and encode, which will stand in `micro/benches/`. Nothing else is here.
