//! The Rust in README and guides, compiled by the doc tests. `guides/` has links to those with Rust in them.

macro_rules! guides {
    ($($name:ident: $file:literal),+ $(,)?) => {
        // `title="…"` is for the site.
        $(#[allow(rustdoc::invalid_codeblock_attributes)]
        #[doc = include_str!($file)]
        struct $name;)+
    };
}

guides! {
    Readme: "readme.md",
    Clusters: "guides/clusters.md",
    FromLapin: "guides/from-lapin.md",
    Testing: "guides/testing.md",
    Tls: "guides/tls.md",
}
