//! scratch
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let c = embedd::convert::Conversion {
        source: a[1].clone().into(),
        output: a[2].clone().into(),
        name: "x".into(),
        replace: true,
    };
    match embedd::convert::convert(&c, &embedd::progress::Progress::plain()) {
        Ok(_) => println!("ok"),
        Err(e) => {
            eprintln!("{e}");
            std::process::exit(1)
        }
    }
}
