//! A picture of a release: the new version's share of the requests, and pods, over time, as SVG.

use crossfade_sim::forecast::{Forecast, Moment};

const WIDTH: f64 = 900.0;
const PANEL: f64 = 180.0;
const LEFT: f64 = 60.0;
const TOP: f64 = 48.0;
const GAP: f64 = 56.0;

/// The picture.
pub(crate) fn svg(forecast: &Forecast, title: &str) -> String {
    let lasted = forecast.lasted.as_secs_f64().max(1.0);
    let right = WIDTH - 20.0;
    let pods = |moment: &Moment| f64::from(moment.new.ready + moment.old.ready);
    let most_pods = forecast.moments.iter().map(pods).fold(1.0, f64::max);
    let height = TOP + 2.0 * PANEL + GAP + 40.0;
    let x = |seconds: f64| LEFT + seconds / lasted * (right - LEFT);
    let upper = TOP + PANEL;
    let lower = upper + GAP + PANEL;
    let path = |base: f64, most: f64, value: &dyn Fn(&Moment) -> f64| {
        let mut path = format!("M{:.1} {base:.1}", x(0.0));
        let mut before = 0.0;
        for moment in &forecast.moments {
            let y = |value: f64| base - value / most * PANEL;
            let (at, now) = (x(moment.at.as_secs_f64()), value(moment));
            path += &format!(" L{at:.1} {:.1} L{at:.1} {:.1}", y(before), y(now));
            before = now;
        }
        path + &format!(" L{:.1} {:.1}", x(lasted), base - before / most * PANEL)
    };
    let line = |path: String, colour: &str| {
        format!("<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>\n")
    };
    let text = |x: f64, y: f64, anchor: &str, text: &str| {
        format!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{}</text>\n",
            escaped(text)
        )
    };
    let mut picture = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n"
    );
    picture += &text(LEFT, 22.0, "start", title);
    for (base, most, unit) in [(upper, 100.0, "%"), (lower, most_pods, "")] {
        for part in [0.0, 0.5, 1.0] {
            let y = base - part * PANEL;
            picture += &format!("<path d=\"M{LEFT} {y:.1} H{right}\" stroke=\"#d0d4da\"/>\n");
            picture += &text(
                LEFT - 8.0,
                y + 4.0,
                "end",
                &format!("{}{unit}", part * most),
            );
        }
    }
    picture += &text(LEFT, TOP - 8.0, "start", "share of the requests");
    picture += &text(
        LEFT,
        upper + GAP - 8.0,
        "start",
        "ready pods: new (blue), old (grey)",
    );
    picture += &line(path(upper, 1.0, &|moment| moment.share), "#1f6feb");
    picture += &line(
        path(lower, most_pods, &|moment| f64::from(moment.old.ready)),
        "#8b949e",
    );
    picture += &line(
        path(lower, most_pods, &|moment| f64::from(moment.new.ready)),
        "#1f6feb",
    );
    for part in 0..=4 {
        let seconds = lasted * f64::from(part) / 4.0;
        picture += &text(
            x(seconds),
            lower + 20.0,
            "middle",
            &super::forecast::span(seconds),
        );
    }
    picture + "</svg>\n"
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
