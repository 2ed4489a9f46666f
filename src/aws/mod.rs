//! AWS-shaped HTTP: endpoints, signing with clock-skew correction, signed calls.
