use super::*;

fn opened(channels: &mut Channels) -> Option<u16> {
    channels.open(|_| ChannelKind::Control)
}

#[test]
fn channels_are_numbered_from_1_to_the_negotiated_limit() {
    let mut channels = Channels::new(2);
    assert_eq!(
        (opened(&mut channels), opened(&mut channels), opened(&mut channels)),
        (Some(1), Some(2), None)
    );
    assert!(channels.get(0).is_none() && channels.get(3).is_none());
    assert!(channels.get(1).is_some() && channels.get(2).is_some());
    assert_eq!(opened(&mut Channels::new(0)), None);
}

#[test]
fn the_number_of_a_channel_that_is_gone_is_another_channels() {
    let mut channels = Channels::new(3);
    for _ in 0..3 {
        opened(&mut channels);
    }
    assert!(matches!(channels.remove(2).map(|channel| channel.kind), Some(ChannelKind::Control)));
    assert!(channels.get(2).is_none() && channels.remove(2).is_none());
    let numbers: Vec<u16> = channels.iter_mut().map(|(number, _)| number).collect();
    assert_eq!(numbers, [1, 3]);
    // Its kind is made for the number that it gets.
    let mut told = 0;
    let number = channels.open(|number| {
        told = number;
        ChannelKind::Publish
    });
    assert_eq!((number, told), (Some(2), 2));
    assert_eq!(opened(&mut channels), None);
}

#[test]
fn a_table_that_was_emptied_begins_again() {
    let mut channels = Channels::new(2);
    opened(&mut channels);
    opened(&mut channels);
    channels.remove(1);
    assert_eq!(channels.drain().count(), 1);
    assert_eq!(
        (opened(&mut channels), opened(&mut channels), opened(&mut channels)),
        (Some(1), Some(2), None)
    );
}
