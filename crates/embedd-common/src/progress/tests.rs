use super::*;

/// A writer whose output the test can read.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("the test's own lock").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().expect("the test's own lock").clone()).expect("text")
    }
}

#[test]
fn a_fast_task_prints_only_its_start_and_end() {
    let log = Log::default();
    let task = Progress::lines_to(Box::new(log.clone())).task("fetching it", Some(2_500_000), Unit::Bytes);
    for _ in 0..2500 {
        task.advance(1000);
    }
    task.finish();
    assert_eq!(log.text(), "fetching it (2.5 MB)\nfetching it: 2.5 MB in 0.0 s\n");
}

#[test]
fn an_unfinished_task_prints_no_end() {
    let log = Log::default();
    let progress = Progress::lines_to(Box::new(log.clone()));
    let task = progress.task("counting", None, Unit::Steps);
    task.set(7);
    drop(task);
    progress.note("given up");
    assert_eq!(log.text(), "counting\ngiven up\n");
}

#[test]
fn a_silent_task_still_counts_without_overflow() {
    let task = Progress::silent().task("counting", Some(3), Unit::Steps);
    task.advance(u64::MAX);
    task.advance(1);
    task.finish();
}

#[test]
fn lines_are_due_after_some_seconds_and_after_each_quarter() {
    let seconds = Duration::from_secs_f64;
    for (since, gained, total, due) in [
        (seconds(0.1), 50, Some(100), false),
        (seconds(1.0), 25, Some(100), true),
        (seconds(1.0), 24, Some(100), false),
        (seconds(5.0), 1, Some(100), true),
        (seconds(5.0), 1, None, true),
        (seconds(60.0), 0, None, false),
        (seconds(2.0), 1, Some(0), false),
    ] {
        assert_eq!(line_is_due(since, gained, total), due, "{since:?} {gained} of {total:?}");
    }
}

#[test]
fn every_template_parses() {
    for unit in [Unit::Bytes, Unit::Steps] {
        for known in [true, false] {
            let bars = MultiProgress::with_draw_target(indicatif::ProgressDrawTarget::hidden());
            let progress = Progress(Arc::new(Sink::Bars(bars)));
            let task = progress.task("drawing", known.then_some(10), unit);
            task.set(3);
            assert!(ProgressStyle::with_template(template(known, unit)).is_ok(), "{unit:?}");
            drop(task);
        }
    }
}

#[test]
fn amounts_are_printed_with_units() {
    for (count, text) in [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (999_949, "999.9 kB"),
        (999_999, "1.0 MB"),
        (404_421_332, "404.4 MB"),
        (u64::MAX, "18446744.1 TB"),
    ] {
        assert_eq!(bytes(count), text);
    }
}
