//! A rate limit as an object of JavaScript.

use fdsplice::RateLimiter;
use napi::bindgen_prelude::{Error, Result};
use napi_derive::napi;

use crate::streams::NativeThrottle;

/// A limit on bytes per second that several transfers share.
#[napi]
pub struct NativeRateLimiter {
    limiter: RateLimiter,
}

#[napi]
impl NativeRateLimiter {
    /// Both numbers are above 0; the TypeScript side has checked that.
    ///
    /// # Errors
    /// When a number is not above 0, because the core would panic.
    #[napi(constructor)]
    pub fn new(bytes_per_second: f64, burst: Option<f64>) -> Result<Self> {
        let limiter = RateLimiter::new(require_positive(bytes_per_second)?);
        let limiter = match burst {
            Some(bytes) => limiter.burst(require_positive(bytes)?),
            None => limiter,
        };
        Ok(Self { limiter })
    }

    /// A share of the limit for a transfer that JavaScript runs.
    #[napi]
    pub fn throttle(&self) -> NativeThrottle {
        NativeThrottle::new(&self.limiter)
    }

    /// Bytes per second.
    #[napi(getter)]
    pub fn bytes_per_second(&self) -> f64 {
        self.limiter.bytes_per_second()
    }

    /// Bytes per second, above 0.
    ///
    /// # Errors
    /// When the number is not above 0.
    #[napi(setter)]
    pub fn set_bytes_per_second(&self, bytes_per_second: f64) -> Result<()> {
        self.limiter
            .set_bytes_per_second(require_positive(bytes_per_second)?);
        Ok(())
    }

    /// The limiter of the core.
    pub(crate) fn core(&self) -> RateLimiter {
        self.limiter.clone()
    }
}

fn require_positive(number: f64) -> Result<f64> {
    if number > 0.0 {
        Ok(number)
    } else {
        Err(Error::from_reason(format!("{number} is not above 0")))
    }
}
