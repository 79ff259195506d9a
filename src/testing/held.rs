use std::process::Child;
use std::process::Command;

/// A process that can be killed, and that nobody reaps until its end. It does not outlive this.
pub(crate) struct Held {
    pub child: Child,
}

impl Held {
    /// One that does nothing.
    pub fn sleep() -> Self {
        Self::start(Command::new("sleep").arg("600"))
    }

    pub fn start(command: &mut Command) -> Self {
        Self { child: command.spawn().unwrap() }
    }

    pub fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
